"""A run on SLURM: what it is given, what is seen of it on its way, and what is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.rundir import FINAL
from tests.clusters.slurm.conftest import Slurm, Start, job
from tests.waiting import until

SCRIPT = """
import os
import mlnb
for step in range(5):
    mlnb.log(loss=5 - step)
print("gpu", os.environ["CUDA_VISIBLE_DEVICES"])
print("token", os.environ.get("WANDB_API_KEY"))
print("asked", repr(os.environ["ASKED"]))
"""
ASKED = "two\nlines, $(touch pwned) `touch pwned` 'and' \"quotes\" \\ %j"


def followed(run: Run) -> list[tuple[str, str]]:
    """What is seen of a run on its way, each thing once."""
    seen: list[tuple[str, str]] = []

    def look() -> bool:
        now = run.observe()
        if (now.state, now.reason) not in seen:
            seen.append((now.state, now.reason))
        return now.state in FINAL

    until(look, 100)
    return seen


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs' root whose name a shell would make much of."""
    return tmp_path_factory.mktemp("runs") / 'it\'s "mine" $(touch pwned) `touch pwned`\n#SBATCH --hold'


def test_a_run_with_a_gpu_from_submission_to_result(
    slurm: Slurm, start: Start, hostile: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLNB_RUNS", str(hostile))
    monkeypatch.setenv("WANDB_API_KEY", "secret-of-the-session")
    run = start(SCRIPT, gpus=1, env={"ASKED": ASKED})
    seen = followed(run)
    assert seen[-1] == ("succeeded", "")
    states = [state for state, _ in seen]
    assert states == sorted(states, key=["pending", "starting", "running", "succeeded"].index)
    assert "running" in states
    assert all("higher priority" not in reason for _, reason in seen), seen  # SLURM's first word for each job

    assert run.logs(0, "out") == f"gpu 0\ntoken None\nasked {ASKED!r}\n"
    assert list(run.series()["loss"].value) == [5, 4, 3, 2, 1]
    assert run.exit_code == 0
    assert run.progress.host.startswith("node")

    shown = slurm.show(job(run))
    assert shown["TresPerNode"] == "gres:gpu:1"
    assert shown["Comment"] == f"mlnb:{run.id}"

    # nothing of what the values hold, or the path, was executed or written
    assert not list(hostile.rglob("pwned"))
    assert not Path("pwned").exists()
    files = [path for path in run.dir.rglob("*") if path.is_file() and path.name != "rank-0.out"]
    assert files
    assert not [path for path in files if b"touch pwned) `touch pwned` 'and'" in path.read_bytes()]
    assert "secret-of-the-session" not in slurm.command("scontrol", "show", "job", "-dd", job(run))
    assert "'and'" not in slurm.command("scontrol", "write", "batch_script", job(run), "-")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (hostile, run.dir, *run.dir.rglob("*/")))
