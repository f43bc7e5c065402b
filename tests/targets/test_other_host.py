"""A local run seen from another login node, or from another container: what can't be seen isn't taken for dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlnb.api import Run, runs
from mlnb.errors import UsageError
from mlnb.node.process.identity import process_identity, wait_for_exit
from mlnb.rundir import read_json, write_json
from mlnb.targets import other_host
from tests.waiting import until

FOREVER = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"
CLEANS_UP = "import time\ntry:\n  print('on', flush=True)\n  time.sleep(600)\nfinally: print('off', flush=True)"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What makes this process one of another machine, to which the run's files are visible and its processes not."""
    with monkeypatch.context() as patch:
        yield patch


def leave(away: pytest.MonkeyPatch) -> None:
    away.setattr("mlnb.node.process.identity.pid_namespace", lambda: "another machine")


def running(start, script: str = FOREVER, **more: object) -> Run:
    run = start(script, **more)
    until(lambda: run.logs(0, "out") == "on\n")  # a rank that runs may not have come to the script yet
    assert run.state == "running"
    return run


def stop_beating(run: Run, seconds: float) -> None:
    """Have a run's last sign of life be so long ago. Nothing writes it any more."""
    attempt = run.directory.attempt(1)
    then = time.time() - seconds
    write_json(attempt.heartbeat(0), {**(read_json(attempt.heartbeat(0)) or {}), "t": then})
    replace(run.info, submitted=then).write(run.directory)
    os.utime(attempt.path, (then, then))


def kill(run: Run) -> None:
    node = (read_json(run.directory.attempt(1).heartbeat(0)) or {})["pid"]
    known = process_identity(node) or ""
    os.kill(node, 9)
    wait_for_exit(node, known, 10)


def test_a_run_is_the_same_from_there_as_from_here(start, away: pytest.MonkeyPatch):
    run = running(start)
    leave(away)
    assert runs[run.id].state == "running"
    assert runs[run.id].reason == ""


def test_a_run_that_trains_elsewhere_is_not_removed(start, away: pytest.MonkeyPatch):
    run = running(start)
    leave(away)
    with pytest.raises(UsageError, match="is running: cancel it first"):
        run.remove()
    assert run.dir.exists()


def test_a_run_is_cancelled_from_elsewhere_and_ends_in_order(start, away: pytest.MonkeyPatch):
    run = running(start, CLEANS_UP)
    leave(away)
    run.cancel()
    assert run.state == "cancelled"
    assert run.logs(0, "out") == "on\noff\n"


def test_a_run_that_waits_elsewhere_is_said_to_and_can_be_cancelled(start, away: pytest.MonkeyPatch):
    cores = len(os.sched_getaffinity(0))
    running(start, cpus=cores)
    second = start("print('never')", cpus=cores)
    until(lambda: second.directory.attempt(1).heartbeat(0).exists())
    leave(away)
    assert second.state == "pending"
    assert second.reason == f"was submitted on {os.uname().nodename}, and waits or starts on that machine"
    second.cancel()
    assert (second.state, second.logs()) == ("cancelled", "")


def test_a_run_that_died_elsewhere_is_late_at_first_and_then_lost(start, away: pytest.MonkeyPatch):
    run = running(start)
    kill(run)
    leave(away)
    stop_beating(run, 100)
    assert run.state == "running"
    assert run.reason == f"last heard of 1 min 40 s ago, from {os.uname().nodename}"
    stop_beating(run, other_host.SILENT + 60)
    assert run.state == "lost"
    assert run.reason.startswith(f"its node program on {os.uname().nodename} has been silent for 6 min")


def test_a_clock_that_is_wrong_there_makes_no_run_lost(start, away: pytest.MonkeyPatch):
    run = running(start)
    leave(away)
    real = time.time
    for wrong in (-3600, 3600):  # the other machine's is an hour late, or early; the file server's is right
        away.setattr(other_host, "read_json_fresh", lambda path, by=wrong: {"t": real() + by})
        assert run.state == "running"


def test_a_run_that_died_here_is_known_to_be_dead_at_once(start):
    run = running(start)
    kill(run)
    assert run.state == "lost"


def test_another_pid_namespace_is_elsewhere(start):
    """As a container is, that has the home directory and nothing else in common with this one."""
    inside = ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c"]
    if subprocess.run([*inside, ""], capture_output=True).returncode:
        pytest.skip("can't make a PID namespace here")
    run = running(start)
    code = f"from mlnb.api import runs\nrun = runs[{run.id!r}]\nprint(run.state)\nrun.cancel()\nprint(run.state)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*inside, code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["running", "cancelled"], done.stderr
