"""A run and its job are there, or neither is, whatever becomes of the submission. The SLURM here is played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import runs
from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json
from tests.targets.batch.played import Played, go, handle, played
from tests.waiting import until

LOST = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
ROOT = Path(__file__).parents[4]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


def taken(slurm: Played, then: str) -> None:
    """sbatch has the job taken, and then does this."""
    find = 'run=$(sed -n "s/.*--comment=mlnb://p" "$2")'
    row = "12345|PENDING|None|$now|$now|1:00:00|1|gpu|0|0||mlnb:$run|"
    slurm.say("sbatch", f'now=$(date +%s); {find}; echo "{row}" >{slurm.folder}/listed; {then}')


def left(root: Path) -> list[str]:
    """What is left of runs."""
    return [path.name for path in root.glob("*") if path.name != ".store"] if root.exists() else []


@pytest.mark.parametrize(
    "then", [LOST, "kill -9 $$", "echo I am a wrapper", "echo 'sbatch: error: my wrapper is broken' >&2; exit 1"]
)
def test_a_job_that_was_taken_is_the_runs_whatever_became_of_the_command(slurm: Played, then: str):
    taken(slurm, then)
    run = go()
    assert handle(run)["job"] == "12345"
    assert run.state == "pending"


def test_a_job_that_appears_when_everybody_has_given_up_waiting_is_the_runs(slurm: Played):
    slurm.say("sbatch", LOST)
    run = go()
    assert not handle(run)
    assert (run.state, run.reason) == ("pending", "being submitted")
    slurm.queue(f"12345 RUNNING {run.id}")
    until(lambda: run.state == "starting")
    assert handle(run)["job"] == "12345"


def test_while_slurm_answers_nothing_the_run_says_so_and_can_be_cancelled_later(slurm: Played):
    slurm.say("sbatch", LOST)
    slurm.queue(more="echo 'squeue: error: Socket timed out on send/recv operation' >&2; exit 1")
    run = go()
    assert run.state == "pending"
    assert "Socket timed out" in run.reason
    with pytest.raises(MlnbError, match="Socket timed out"):
        run.cancel()
    slurm.queue(f"12345 PENDING {run.id}")
    slurm.say("scancel", f"echo >{slurm.folder}/listed")
    run.cancel()
    assert slurm.calls("scancel") == [": 12345"]
    assert run.state == "cancelled"


@pytest.mark.parametrize(
    "refusal",
    [
        "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1",
        "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
        "echo gibberish",
    ],
)
def test_a_refusal_leaves_nothing(slurm: Played, refusal: str, runs_root: Path):
    slurm.say("sbatch", refusal)
    with pytest.raises(MlnbError):
        go()
    assert left(runs_root) == []


CELL = """
from tests.targets.batch.played import go
try:
    go()
except KeyboardInterrupt:
    print("interrupted")
"""


def interrupted(slurm: Played, then: str) -> str:
    """What a process prints that submits, and whose whole group is interrupted once SLURM has taken the job."""
    taken(slurm, f"touch {slurm.folder}/taken; sleep 1; {then}")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", CELL]
    cell = subprocess.Popen(words, env=env, start_new_session=True, stdout=subprocess.PIPE, text=True)
    until((slurm.folder / "taken").exists)
    os.killpg(cell.pid, signal.SIGINT)
    return cell.communicate(timeout=60)[0]


@pytest.mark.parametrize("then", ["echo 12345", LOST])
def test_an_interrupt_takes_the_job_back(slurm: Played, then: str, runs_root: Path):
    slurm.say("scancel", f"echo >{slurm.folder}/listed")
    assert interrupted(slurm, then) == "interrupted\n"
    assert slurm.calls("scancel") == [": 12345"]
    assert left(runs_root) == []


def test_a_job_that_can_not_be_taken_back_is_followed(slurm: Played, runs_root: Path):
    slurm.say("scancel", "echo 'scancel: error: Socket timed out on send/recv operation' >&2; exit 1")
    assert interrupted(slurm, "echo 12345") == "interrupted\n"
    (run,) = runs
    assert run.state == "pending"
    assert (RunDir(run.dir).cancel).exists()
    assert (read_json(run.directory.handle) or {})["job"] == "12345"
