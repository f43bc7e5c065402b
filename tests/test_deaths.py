"""Kill each process of a run at random moments: no data is lost, and the run's state is right."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlnb.api import Run, runs
from mlnb.api.read import state
from mlnb.node.checkpoint import files as checkpoint_files
from mlnb.node.process.identity import process_identity
from mlnb.rundir import RunDir, read_lines
from mlnb.targets import warm
from mlnb.targets.local import cores
from mlnb.workspace import Workspace
from tests.waiting import until

pytestmark = pytest.mark.slow

SLACK = 1.0
"""Seconds: far more than the 250 ms promised, since a machine under tests is slow."""

_TRAIN = """
import os, struct, time
import torch
import mlnb

rank, stop = os.environ.get("RANK", "0"), os.environ["STOP"]
side = os.open(os.environ["SIDE"] + rank, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
model, count = torch.nn.Linear(50, 50), 0
for epoch in mlnb.epochs(10**6, model=model):
    for _ in range(20):
        count += 1
        mlnb.log(**{"step": count, "x" + rank: count})
        os.write(side, struct.pack("dd", time.time(), count))
        time.sleep(0.003)
    if os.path.exists(stop):
        break
"""

_SUBMIT = """
import sys, time
from mlnb.api.submit.submit import submit
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
script, stop, side = sys.argv[1:]
place = target()
offer = place.offer(Resources(ranks=2, cpus=1))
print("ready", flush=True)
sys.stdin.readline()
submit(Task(script=script), {}, place, offer, name="deaths", env={"STOP": stop, "SIDE": side})
print("submitted", flush=True)
time.sleep(1000)
"""


class Training:
    """A run that trains until the file ``stop`` exists, with its processes and what it has logged."""

    def __init__(self, folder: Path) -> None:
        self.stop, self.side = folder / "stop", folder / "side-"
        self.env = {"STOP": str(self.stop), "SIDE": str(self.side)}
        self.run: Run

    def event(self, kind: str) -> dict | None:
        lines = read_lines(self.run.directory.attempt(1).events(0))
        return next((line for line in lines if line["event"] == kind), None)

    def node(self) -> int:
        return int(until(lambda: self.event("started"))["pid"])

    def ranks(self) -> dict[int, int]:
        return {int(rank): pid for rank, pid in until(lambda: self.event("running"))["ranks"].items()}

    def guard(self) -> int:
        ranks = set(self.ranks().values())
        (guard,) = [child.pid for child in psutil.Process(self.node()).children() if child.pid not in ranks]
        return guard

    def logged(self, rank: int, before: float = float("inf")) -> list[float]:
        """What the script has logged, from its own record, up to the time ``before``."""
        path = Path(f"{self.side}{rank}")
        data = path.read_bytes() if path.exists() else b""
        return [value for when, value in struct.iter_unpack("dd", data[: len(data) // 16 * 16]) if when < before]

    def is_gone(self) -> bool:
        """Whether no process of the run is left."""
        started, running = self.event("started"), self.event("running")
        pids = [started["pid"]] if started else []
        return all(process_identity(pid) is None for pid in [*pids, *(running or {"ranks": {}})["ranks"].values()])


@pytest.fixture
def training(tmp_path: Path, start) -> Training:
    training = Training(tmp_path)
    training.run = start(_TRAIN, ranks=2, cpus=1, env=training.env)
    return training


def check(training: Training, killed: float | None) -> None:
    """Check what holds whatever was killed; ``killed`` is when that ended the run (``None``: it succeeded)."""
    run = Run(RunDir(training.run.dir))  # as another process reads it
    json.dumps(run.to_json(), allow_nan=False)
    assert run.state == training.run.state
    run.logs()
    run.metrics()
    series = run.series()
    for rank in range(2):
        expected = training.logged(rank, float("inf") if killed is None else killed - SLACK)
        values = series[f"x{rank}"].value.tolist() if f"x{rank}" in series else []
        assert values[: len(expected)] == expected
    if run.checkpoints():
        newest = checkpoint_files.load(run.checkpoints()[-1])
        assert set(newest["state"]["model"]) == {"weight", "bias"}
    until(training.is_gone)


def cores_are_free(start) -> None:
    assert start("", cpus=cores()).wait(60).state == "succeeded"


def random_moment(training: Training, seed: int) -> float:
    """Wait for a random moment while the run trains; the time then."""
    chance = random.Random(seed)
    if seed:
        training.ranks()
        time.sleep(chance.uniform(0, 1.8))  # not for a condition: any moment will do
    return time.time()


@pytest.mark.parametrize("seed", range(4))
def test_the_node_program_dies(training: Training, start, seed: int):
    pid = training.node()
    now = random_moment(training, seed)
    os.kill(pid, signal.SIGKILL)
    assert training.run.wait(60).state == "lost"
    assert "its node program is gone" in training.run.reason
    check(training, now)
    cores_are_free(start)


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_rank_dies(training: Training, start, seed: int):
    now = random_moment(training, seed)
    os.kill(training.ranks()[seed % 2], signal.SIGKILL)
    assert training.run.wait(60).state == "failed"
    assert training.run.reason.startswith(f"rank {seed % 2} was killed by SIGKILL")
    check(training, now)
    cores_are_free(start)


@pytest.mark.parametrize("seed", range(3))
def test_the_fork_server_dies_and_the_run_goes_on(training: Training, start, seed: int):
    training.node()
    random_moment(training, seed)
    parent = psutil.Process(training.node()).ppid()
    assert "mlnb.node.fork_server" in " ".join(psutil.Process(parent).cmdline())
    os.kill(parent, signal.SIGKILL)
    before = len(training.logged(0))
    until(lambda: len(training.logged(0)) > before + 30)
    assert training.run.state == "running"
    training.stop.touch()
    assert training.run.wait(60).state == "succeeded"
    check(training, None)
    cores_are_free(start)
    assert warm.socket_path(Workspace.of_process()).exists()


@pytest.mark.parametrize("seed", range(1, 3))
def test_the_guard_dies_and_the_run_goes_on(training: Training, start, seed: int):
    random_moment(training, seed)
    os.kill(training.guard(), signal.SIGKILL)
    before = len(training.logged(0))
    until(lambda: len(training.logged(0)) > before + 30)
    training.stop.touch()
    assert training.run.wait(60).state == "succeeded"
    check(training, None)
    cores_are_free(start)


@pytest.mark.parametrize("seed", range(1, 3))
def test_the_guard_and_then_the_node_program_die(training: Training, start, seed: int):
    pid = training.node()
    random_moment(training, seed)
    os.kill(training.guard(), signal.SIGKILL)
    now = time.time()
    os.kill(pid, signal.SIGKILL)
    assert training.run.wait(60).state == "lost"
    check(training, now)
    cores_are_free(start)


@pytest.mark.parametrize("seed", range(5))
def test_the_submitting_process_dies_and_the_run_goes_on(
    tmp_path: Path, runs_root: Path, start, seed: int, monkeypatch: pytest.MonkeyPatch
):
    """As a notebook's kernel does: it may die during the submission, or while the run trains."""
    monkeypatch.setattr(state, "_SUBMISSION_TIMEOUT", 3.0)
    assert start("").wait(60).state == "succeeded"  # the fork server is there
    training = Training(tmp_path)
    command = [sys.executable, "-c", _SUBMIT, _TRAIN, str(training.stop), str(training.side)]
    cwd = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd) as submitter:
        assert submitter.stdin is not None
        assert submitter.stdout is not None
        assert submitter.stdout.readline() == b"ready\n"
        submitter.stdin.write(b"go\n")
        submitter.stdin.flush()
        if seed >= 3:
            assert submitter.stdout.readline() == b"submitted\n"
        chance = random.Random(seed)
        time.sleep(chance.uniform(0, 0.06) if seed < 3 else chance.uniform(0, 0.7))  # any moment will do
        submitter.kill()
    submitted = [run for run in runs if run.name == "deaths"]
    assert len(submitted) <= 1
    if not submitted:  # nothing was submitted, and nothing runs
        assert not list(tmp_path.glob("side-*"))
        assert seed < 3
        return
    training.run = submitted[0]
    until(lambda: training.event("started") or training.run.done)
    if not training.event("started"):
        assert training.run.state == "lost"
        assert "submission was interrupted" in training.run.reason
        assert seed < 3
        return
    training.ranks()
    until(lambda: len(training.logged(0)) > 30)
    training.stop.touch()
    assert training.run.wait(60).state == "succeeded"
    check(training, None)
    cores_are_free(start)
