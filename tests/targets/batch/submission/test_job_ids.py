"""Which job a run is: read from the line that says so, on the cluster it was sent to. The SLURM here is played."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.batch import load_system
from mlnb.workspace import Workspace
from tests.targets.batch.played import Played, aged, go, handle, played

NEWS = "You have 120 GPU hours left on account phys42.\n42\u00a0nodes are down.\nSee job 7 of <https://site/8>\n"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


@pytest.mark.parametrize(
    ("kind", "said", "job"),
    [
        ("slurm", "12345", ("12345", "")),
        ("slurm", "12345;inter", ("12345", "inter")),
        ("slurm", "Submitted batch job 12345", ("12345", "")),
        ("slurm", "Submitted batch job 12345 on cluster inter", ("12345", "inter")),
        ("sge", 'Your job 12345 ("digits.20261121-000000-abcdef") has been submitted', ("12345", "")),
        ("sge", "12345", ("12345", "")),
        ("sge", 'Your job-array 12345.1-6:1 ("digits.array-ab") has been submitted', ("12345", "")),
        ("sge", "12345.1-6:1", ("12345", "")),
        ("pbs", "12345.server.site", ("12345", "")),
        ("moab", "Moab.12345", ("12345", "")),
        ("moab", "12345", ("12345", "")),
        ("lsf", "Job <12345> is submitted to default queue <normal>.", ("12345", "")),
        ("oar", "OAR_JOB_ID=12345", ("12345", "")),
        ("htcondor", "1 job(s) submitted to cluster 12345.", ("12345.0", "")),
    ],
)
def test_a_job_is_what_its_own_line_says_whatever_a_wrapper_prints_around_it(
    kind: str, said: str, job: tuple[str, str]
):
    system = load_system(kind)({}, Workspace.of_process())
    assert system.submitted_job(f"{NEWS}\n{said}\n{NEWS}") == job
    assert system.submitted_job(NEWS) is None


def test_a_wrapper_that_prints_a_number_first(slurm: Played):
    slurm.say("sbatch", "echo 'You have 120 GPU hours left'; echo 'Submitted batch job 12345'")
    run = go()
    assert handle(run)["job"] == "12345"
    slurm.queue(f"12345 PENDING {run.id}", more="true")  # gone as soon as it is cancelled
    run.cancel()
    assert slurm.calls("scancel") == [": 12345"]


def test_what_names_no_job_is_shown(slurm: Played, tmp_path: Path):
    slurm.say("sbatch", "echo 'You have 120 GPU hours left'; echo 'Come again'")
    with pytest.raises(MlnbError) as caught:
        go()
    assert str(caught.value) == "SLURM gave no job id, but printed: You have 120 GPU hours left Come again"


@pytest.mark.parametrize("by", ["setting", "directive", "session"])
def test_a_job_on_another_cluster_is_asked_for_there(slurm: Played, by: str, monkeypatch: pytest.MonkeyPatch):
    settings = {"setting": {"cluster": "inter"}, "directive": {"directives": ["--mail-type=NONE -M inter"]}}.get(by, {})
    slurm.say("sbatch", "echo '12345;inter'")
    with dask.config.set({"mlnb": {"targets": {"slurm": settings}}}):
        if by == "session":
            monkeypatch.setenv("SBATCH_CLUSTERS", "inter")
        run = go()
    assert handle(run)["cluster"] == "inter"
    assert all(call.startswith("inter: ") for name in ("scontrol", "sbatch") for call in slurm.calls(name))
    # whoever looks at it later, with or without that in the environment
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    slurm.queue(f"12345 PENDING {run.id}")
    assert aged(run).state == "pending"
    slurm.queue()
    run.cancel()
    assert slurm.calls("scancel") == ["inter: 12345"]
    assert run.state == "cancelled"
    for name in ("squeue", "sacct"):
        assert {call.split()[0] for call in slurm.calls(name)} <= {"inter:"}, name


def test_a_job_on_the_usual_cluster_is_looked_for_there_from_a_session_that_uses_another(
    slurm: Played, monkeypatch: pytest.MonkeyPatch
):
    run = go()
    slurm.queue(more=f'[ -n "$SLURM_CLUSTERS" ] || cat {slurm.folder}/listed')
    (slurm.folder / "listed").write_text(f"12345|RUNNING|None|1|1|1:00:00|1|gpu|0|0|n1|mlnb:{run.id}|\n")
    monkeypatch.setenv("SLURM_CLUSTERS", "inter")
    assert aged(run).state == "starting"


def test_a_run_whose_submission_died_is_found_on_its_cluster(slurm: Played):
    with dask.config.set({"mlnb": {"targets": {"slurm": {"cluster": "inter"}}}}):
        run = go()
        run.directory.handle.unlink()
        slurm.queue(f"12345 PENDING {run.id}")
        code = f"import mlnb; print(mlnb.runs[{run.id!r}].state)"
        env = {**os.environ, "SLURM_CLUSTERS": "inter"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "pending\n", done.stderr
    assert (handle(run)["job"], handle(run)["cluster"]) == ("12345", "inter")


def test_a_run_goes_to_one_cluster(slurm: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SBATCH_CLUSTERS", "inter,intra")
    with pytest.raises(
        UsageError, match="cluster inter,intra: a run needs one cluster; set it with the target's setting cluster:"
    ):
        go()
