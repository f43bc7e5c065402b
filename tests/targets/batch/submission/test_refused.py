"""What a batch system says to a job that it refuses, in one line with what to do. The SLURM here is played."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.errors import MlnbError
from mlnb.targets.base import Placement
from tests.scripts import write_command
from tests.targets.batch.played import Played, go, played


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


def refused(slurm: Played, *lines: str, **where: str) -> str:
    (slurm.folder / "words").write_text("".join(f"sbatch: error: {line}\n" for line in lines))
    slurm.say("sbatch", f"cat {slurm.folder}/words >&2; exit 1")
    with pytest.raises(MlnbError) as caught:
        go(placement=Placement("test", where))  # type: ignore[arg-type]
    return str(caught.value)


def test_all_that_a_site_says_is_shown(slurm: Played):
    said = refused(
        slurm,
        "**********",
        "You must give a project:   see https://docs.site/projects.",
        "Projects of yours: phys42, phys43",
        "**********",
        "Batch job submission failed: Unspecified error",
    )
    assert said == (
        "SLURM says: You must give a project: see https://docs.site/projects; Projects of yours: phys42, phys43; "
        "Batch job submission failed: Unspecified error"
    )


COMBINATION = "Batch job submission failed: Invalid account or account/partition combination specified"


@pytest.mark.parametrize(
    ("said", "where", "line"),
    [
        (COMBINATION, {}, "SLURM says: {}; choose one with --account, or with the target's setting account:"),
        (
            COMBINATION,
            {"account": "phys42", "partition": "gpu"},
            "--account phys42: SLURM says: {}; choose another with --account, or with the target's setting account:",
        ),
        (
            "Batch job submission failed: Invalid qos specification",
            {"qos": "long", "partition": "gpu"},
            "--qos long: SLURM says: {}; choose another with --qos, or with the target's setting directives:",
        ),
        (
            "Batch job submission failed: Requested partition configuration not available now",
            {"partition": "gpu"},
            "--partition gpu: SLURM says: {}",
        ),
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)",
            {},
            "SLURM says: {}",
        ),
    ],
)
def test_a_refusal_names_what_can_be_changed(slurm: Played, said: str, where: dict[str, str], line: str):
    assert refused(slurm, said, **where) == line.format(said)


def test_what_is_said_again_and_again_is_said_once(slurm: Played):
    again = "Slurm temporarily unable to accept job, sleeping and retrying"
    assert refused(slurm, again, again, again) == f"SLURM says: {again}"


def test_what_lsf_says_of_a_refusal_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answer = "echo 'gpuu: No such queue. Job not submitted.' >&2; exit 255"
    write_command(tmp_path, "bsub", f"cat >{tmp_path}/given", answer)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MlnbError) as caught:
        go(on="lsf", placement=Placement("test", {"partition": "gpuu"}))
    assert str(caught.value) == "LSF says: gpuu: No such queue. Job not submitted"
    assert "#BSUB -q gpuu" in (tmp_path / "given").read_text()
