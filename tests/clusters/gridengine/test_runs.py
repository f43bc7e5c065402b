"""Runs on Grid Engine: what they are given, what is said of them, and that none is called what it is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.errors import UsageError
from tests.clusters.gridengine.conftest import GridEngine, Start, configured, job
from tests.testbeds.ordinary import OrdinaryUser
from tests.waiting import until

pytestmark = pytest.mark.cluster

LONG = """
import os, time
import mlnb
mlnb.log(pid=os.getpid())
try:
    time.sleep(300)
finally:
    print("had time to save")
"""

TRAINING = """
import os, time
import torch
import mlnb
attempt = 1 + int(os.environ["MLNB_RESTARTS"])
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in mlnb.epochs(4, model=model, optimizer=optimizer):
    if epoch == attempt < 3:
        print("under way", attempt)
        time.sleep(300)
    loss = model(torch.ones(1)).square().sum()
    loss.backward()
    optimizer.step()
"""


def running(run: Run) -> Run:
    """A run whose script has begun."""
    until(lambda: run.series().get("pid") is not None)
    return run


def gone(run: Run) -> bool:
    """Whether nothing is left of a run's script."""
    try:
        os.kill(int(run.series()["pid"].value[0]), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def full(gridengine: GridEngine) -> str:
    """A job of someone else's that holds all slots; its id."""
    other = gridengine.qsub("sleep 300", "-pe", "mlnb", "4")
    gridengine.wait_state(other, "r")
    return other


def test_a_run_with_cores_and_a_gpu(
    gridengine: GridEngine, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In a folder whose name a shell would make much of."""
    monkeypatch.setenv("MLNB_RUNS", str(tmp_path / 'it\'s "mine" `touch pwned` && `touch pwned`'))
    script = """
import os
import mlnb
for step in range(5):
    mlnb.log(loss=5 - step)
print("slots", os.environ["NSLOTS"], "threads", os.environ["OMP_NUM_THREADS"])
"""
    run = start(script, cpus=2, gpus=1, time=3600)
    seen = gridengine.command("qstat", "-j", job(run))
    assert re.search(r"hard resource_list: +h_rt=3600,gpu=1\n", seen)
    assert run.wait(60).state == "succeeded", run.reason
    assert run.logs(0, "out") == "slots 2 threads 2\n"
    assert list(run.series()["loss"].value) == [5, 4, 3, 2, 1]
    assert not list(tmp_path.rglob("pwned"))


def test_an_ordinary_user_runs_too(ordinary_user: OrdinaryUser):
    code = """
from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
place = target("sge")
offer = place.offer(Resources(), Placement("1st"))  # a name that Grid Engine takes from nobody
run = Run(submit(Task(script="import getpass; print(getpass.getuser())"), {}, place, offer, name="1st", env={}))
run.wait(60)
print(run.state, run.reason, run.logs(0, "out"))
"""
    assert ordinary_user.snippet(code).split() == ["succeeded", ordinary_user.name]


def test_a_waiting_run_says_why_and_leaves_nothing_when_cancelled(gridengine: GridEngine, full: str, start: Start):
    waiting = start()
    until(lambda: "free slots" in waiting.reason)
    assert (waiting.state, waiting.reason) == ("pending", "Waiting for free slots: all suitable ones are in use")
    gridengine.command("qhold", job(waiting))
    until(lambda: "Held" in waiting.reason)
    assert waiting.reason == f"Held by its owner or an administrator: qrls {job(waiting)} releases it"
    waiting.cancel()
    assert gridengine.qstat(job(waiting)) is None
    assert waiting.state == "cancelled"
    gridengine.command("qdel", full)


def test_a_run_that_can_not_be_started_says_why(gridengine: GridEngine, start: Start):
    with configured(directives=["-o /nonexistent/log"]):
        run = start()
        until(lambda: "could not start it" in run.reason)
        assert run.state == "pending"
        assert run.reason == (
            "Held: Grid Engine could not start it "
            '(can\'t open output file "/nonexistent/log": No such file or directory); '
            f"qmod -cj {job(run)} lets it try again"
        )


def test_a_running_run_has_time_to_save_when_another_process_cancels_it(gridengine: GridEngine, start: Start):
    run = running(start(LONG))
    code = f"import mlnb; mlnb.runs[{run.id!r}].cancel()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert run.state == "cancelled"
    assert run.logs(0, "out") == "had time to save\n"
    until(lambda: gridengine.qstat(job(run)) is None and gone(run))  # the run has ended, its job ends in a moment


@pytest.mark.slow
def test_runs_whose_jobs_are_deleted_say_so_and_are_no_success(gridengine: GridEngine, start: Start):
    run = running(start(LONG, requeue=True))
    with configured(directives=["-h"]):
        waiting = start()
    assert waiting.state == "pending"
    gridengine.command("qdel", job(run), job(waiting))
    until(lambda: run.done and waiting.done)
    assert run.state == "cancelled"
    assert "by the system, not through mlnb" in run.reason
    assert run.logs(0, "out") == "had time to save\n"
    assert gone(run)
    assert waiting.state == "cancelled"
    assert "as a job that is deleted (qdel) before it starts" in waiting.reason


def test_a_run_ends_in_time_for_a_checkpoint_and_says_why(gridengine: GridEngine, start: Start):
    """Grid Engine tells no job how long it has: the submission does."""
    with configured(grace="55s"):
        run = start(LONG, time=60)
        until(lambda: run.done)
    assert run.state == "failed"
    assert run.reason.startswith("Out of time (")


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint_however_often_it_is_rescheduled(gridengine: GridEngine, start: Start):
    run = start(TRAINING, requeue=True)
    for attempt in (1, 2):
        until(lambda attempt=attempt: f"under way {attempt}" in run.logs(0, "out"))  # type: ignore[misc]
        gridengine.command("qmod", "-rj", job(run))
    assert run.wait(60).state == "succeeded", run.reason
    curve = run.metrics().query("name == 'loss'")
    assert curve.step.tolist() == [1, 2, 3, 4]
    assert curve.attempt.tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("asked", "settings", "words"),
    [
        ({"partition": "nosuch.q"}, {}, r'--partition nosuch.q: .*unknown queue "nosuch.q"'),
        ({"cpus": 2}, {"parallel_environment": "nosuch"}, 'parallel environment "nosuch" does not exist'),
        ({"cpus": 2}, {"parallel_environment": None}, "set parallel-environment: of the target to one of: mlnb"),
        ({"gpus": 5}, {}, "Grid Engine has no queue that could ever run this: ask for fewer cores or GPUs"),
        ({"gpus": 1}, {"gpu_resource": "nosuch"}, 'unknown resource "nosuch"'),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(
    start: Start, runs_root: Path, asked: dict[str, object], settings: dict[str, object], words: str
):
    with configured(**settings), pytest.raises(UsageError, match=words) as caught:
        start(**asked)
    assert "\n" not in str(caught.value)
    assert "Exiting" not in str(caught.value)
    assert not list(runs_root.glob("[!.]*"))
