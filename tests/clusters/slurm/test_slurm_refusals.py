"""What SLURM can't do is refused with one line that says what would do; neither a directory nor a job is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dask.config
import pytest

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.registry import names, target
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured

Refused = Callable[..., str]


@pytest.fixture
def refused(slurm: Slurm, start: Start, tmp_path: Path) -> Iterator[Refused]:
    """The line by which a submission is refused."""
    usual = dict(os.environ)  # a test may change it

    def refusal(**asked: object) -> str:
        with pytest.raises(MlnbError) as caught:
            start(**asked)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    yield refusal
    assert not [path for path in tmp_path.glob("*/[0-9.]*") if path.name != ".store"]
    listed = subprocess.run(["squeue", "-h", "-O", "WorkDir:|"], env=usual, capture_output=True, text=True, check=True)
    assert str(tmp_path) not in listed.stdout


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            {"partition": "hihg"},
            "Unknown partition hihg. Did you mean high? Available: gpu, high, short.",
        ),
        (
            {"partition": "gpu; touch x"},
            "--partition 'gpu; touch x': use letters, digits and '_.,@+:/-', and begin with one of the first three",
        ),
        ({"gpus": 3}, "--gpus 3: the nodes of partition gpu have 2 at most; try --gpus 2"),
        ({"time": 2 * 86400}, "--time 48 h: partition gpu allows 24 h at most"),
        ({"time": 600, "partition": "short"}, "--time 10 min: partition short allows 5 min at most"),
        ({"nodes": 4}, "--nodes 4: partition gpu has 3 that can take it; try --nodes 3"),
        ({"nodes": 2, "partition": "short"}, "--nodes 2: partition short allows 1 a job"),
        (
            {"cpus": 5},
            "--cpus 5: 1 rank × 5 are more cores than the 4 of a node of partition gpu; try --cpus 4",
        ),
        (
            {"cpus": 3, "ranks": 2},
            "--cpus 3: 2 ranks × 3 are more cores than the 4 of a node of partition gpu; try --cpus 2",
        ),
        ({"memory": 2**33}, "--memory 8.6 GB: the nodes of partition gpu have 6.3 GB at most"),
        ({"gpus": 1, "gpu_type": "h100"}, "--gpu-type h100"),
    ],
)
def test_more_than_there_is(refused: Refused, asked: dict[str, object], line: str):
    assert refused(**asked).startswith(line)


@pytest.mark.parametrize(
    ("settings", "asked", "line"),
    [
        ({"max_gpus": 1}, {"gpus": 2}, "--gpus 2: target slurm allows 1 GPU a run (max-gpus); --gpus 1 is the most"),
        ({"max_time": "1m"}, {}, "--time 5 min: target slurm allows 1m a run (max-time)"),
        ({"max_nodes": 1}, {"nodes": 2}, "--nodes 2: target slurm allows 1 a run (max-nodes)"),
        ({"max_memory": "500MB"}, {}, "--memory 1.1 GB: target slurm allows 500MB a run (max-memory)"),
    ],
)
def test_more_than_the_site_allows(refused: Refused, settings: dict[str, object], asked: dict[str, object], line: str):
    with configured(**settings):
        assert refused(**asked) == line


@pytest.mark.parametrize(
    ("settings", "names_it"),
    [
        ({"time": "soon"}, "time: 'soon'"),
        ({"max_gpus": "many"}, "max-gpus: 'many'"),
        ({"poll": "often"}, "poll: 'often'"),
        ({"grace": "long"}, "grace: 'long'"),
        ({"requeue": "perhaps"}, "requeue: 'perhaps'"),
        ({"directives": ["--hold\n--evil"]}, "directives: '--hold\\n--evil'"),
        ({"directives": 5}, "directives: 5"),
        ({"setup": [["module"]]}, "setup: ['module']"),
        ({"partition": "no such"}, "--partition 'no such'"),
        ({"account": "a b"}, "account 'a b'"),
        ({"jobqueue": "nosuch"}, "jobqueue.nosuch"),
    ],
)
def test_settings_that_are_wrong(refused: Refused, settings: dict[str, object], names_it: str):
    with configured(**settings):
        assert names_it in refused()


@pytest.mark.parametrize("targets", ["slurm", {"slurm": "gpu"}, ["slurm"]])
def test_targets_that_are_none(targets: object):
    with dask.config.set({"mlnb": {"targets": targets}}), pytest.raises(UsageError, match="must be a mapping"):
        target("slurm")


def test_a_section_without_targets_is_like_none_at_all(slurm: Slurm):
    with dask.config.set({"mlnb": {"targets": None}}):
        assert "slurm" in names()
        assert target("slurm").name == "slurm"


def test_a_target_that_is_nearly_slurm():
    with pytest.raises(UsageError, match=r"^Unknown target slrum\. Did you mean slurm\? Available: "):
        target("slrum")


def test_what_sbatch_refuses_is_said_with_what_can_be_changed(refused: Refused):
    with configured(directives=["--nodelist=nosuch"]):
        assert refused() == "SLURM says: Batch job submission failed: Invalid node name specified"


def test_a_path_that_slurm_would_misread(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLNB_RUNS", str(tmp_path / "50%j"))
    assert "SLURM misreads '%' in a path: set MLNB_RUNS to another folder" in refused()


def test_a_machine_without_slurms_commands(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused() == ("scontrol is not on PATH. Use SLURM from a machine that has its commands.")


def test_a_submission_that_fails_when_all_was_checked(refused: Refused, commands: Commands):
    commands.say(
        "sbatch", "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying' >&2; exit 1"
    )
    assert refused() == "SLURM says: Slurm temporarily unable to accept job, sleeping and retrying"
    commands.say("sbatch", "echo gibberish")
    assert refused() == "SLURM gave no job id, but printed: gibberish"


@pytest.fixture
def down(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller does not answer (its port is another; commands give up soon)."""
    text = re.sub(r"(?m)^SlurmctldPort=.*$", "SlurmctldPort=16899\nMessageTimeout=1", slurm.conf.read_text())
    folder = tmp_path / "down"
    folder.mkdir()
    for file in slurm.conf.parent.glob("*.conf"):
        if os.access(file, os.R_OK):  # the database's is its own
            shutil.copy(file, folder)
    (folder / "slurm.conf").write_text(text)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))


def test_a_controller_that_is_down(refused: Refused, down: None):
    assert "nable to contact slurm controller" in refused()
