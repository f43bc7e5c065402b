"""What a network file system doesn't show yet is not taken for missing (a stand-in: see ``tests/testbeds/nfs.py``)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import Run
from mlnb.node.process.identity import is_alive
from mlnb.rundir import RunDir, read_json, read_lines, write_json
from mlnb.runinfo import NodeSettings, RunInfo
from mlnb.targets.pool import runs
from mlnb.targets.pool.runs import PoolRuns
from tests.conftest import Start
from tests.testbeds.nfs import hide
from tests.waiting import until


def reread(run: Run) -> Run:
    """The same run for a session that has read nothing of it."""
    return Run(RunDir(run.dir))


def finished(start: Start) -> Run:
    """A run that has succeeded, and of which no process is left."""
    run = start("").wait(60)
    program = read_lines(run.directory.attempt(1).events(0))[0]
    until(lambda: not is_alive(program["pid"], program["identity"]))
    return run


def test_a_run_whose_result_is_hidden_is_not_lost(start: Start, monkeypatch: pytest.MonkeyPatch):
    run = finished(start)
    hide(monkeypatch, run.directory.result)
    assert read_json(run.directory.result) is None
    assert reread(run).state == "succeeded"


def test_a_run_whose_cancelling_is_hidden_is_not_lost(start: Start, monkeypatch: pytest.MonkeyPatch):
    run = finished(start)
    run.directory.result.unlink()
    write_json(run.directory.cancel, {"by": "me"})
    hide(monkeypatch, run.directory.cancel)
    assert reread(run).state == "cancelled"


def test_a_run_whose_handle_is_hidden_is_not_one_whose_submission_died(start: Start, monkeypatch: pytest.MonkeyPatch):
    run = finished(start)
    attempt = run.directory.attempt(1)
    attempt.events(0).unlink()
    run.directory.result.unlink()
    replace(run.info, submitted=0.0).write(run.directory)
    os.utime(attempt.path, (0, 0))
    hide(monkeypatch, run.directory.handle)
    assert "submission was interrupted" not in reread(run).reason


def test_the_end_of_a_run_on_another_machine_is_seen_though_its_result_was_hidden(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    run = finished(start)
    monkeypatch.setattr("mlnb.node.process.identity.pid_namespace", lambda: "another machine")
    hide(monkeypatch, run.directory.result)
    observed = reread(run)
    assert not observed.done
    assert observed.state == "succeeded"


# in a pool


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run that may be queued again and has a checkpoint."""
    made = RunDir(tmp_path / "a-run")
    made.attempt(1).path.mkdir(parents=True)
    made.checkpoints.mkdir()
    (made.checkpoints / "epoch-0003.pt").write_bytes(b"")
    RunInfo("a-run", "a-run", node=NodeSettings(requeue=True)).write(made)
    return made


class Node:
    """The pool's node, which starts what it is asked to and says so, or doesn't."""

    def __init__(self, run: RunDir, *, answers: bool = True) -> None:
        self.run, self.answers = run, answers
        self.started = 0

    async def call(self, function: Any, request: dict[str, Any]) -> dict[str, Any]:
        self.started += 1
        process = {"pid": self.started, "identity": f"place:{self.started}"}
        if self.started == 1:
            write_json(self.run.attempt(request["attempt"]).lock(0), process)
        if not self.answers:
            raise OSError("the answer was lost")
        return process


def turn(pool_runs: PoolRuns, node: Node, alive: dict[str, Any]) -> None:
    """What a pool's daemon does once a second."""
    polled = pool_runs.processes()
    pool_runs.update(polled, alive)
    pool_runs.resolve_interrupted("here", None)
    asyncio.run(pool_runs.start_waiting("here", node.call, None))


def entry(pool_runs: PoolRuns) -> dict[str, Any]:
    return pool_runs.summary()["a-run"]


@pytest.fixture
def no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool decides at once about a run that was interrupted, without waiting for its files to appear."""
    monkeypatch.setattr(runs, "_DOUBT", -1.0)


@pytest.mark.usefixtures("no_doubt")
def test_a_run_of_a_pool_whose_result_is_hidden_is_not_started_again(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    pool_runs, node = PoolRuns(), Node(run)
    pool_runs.add(run.path, 1, {})
    turn(pool_runs, node, {})
    write_json(run.result, {"state": "succeeded", "attempt": 1})
    hide(monkeypatch, run.result)
    turn(pool_runs, node, {})
    assert (entry(pool_runs)["state"], entry(pool_runs)["attempt"], node.started) == ("over", 1, 1)


@pytest.mark.usefixtures("no_doubt")
def test_a_run_of_a_pool_whose_beginning_is_hidden_is_not_started_again(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    pool_runs, node = PoolRuns(), Node(run, answers=False)
    pool_runs.add(run.path, 1, {})
    turn(pool_runs, node, {})
    hide(monkeypatch, run.attempt(1).lock(0))
    turn(pool_runs, node, {})
    assert (entry(pool_runs)["state"], node.started) == ("sent", 1)
    assert pool_runs.processes() == {"a-run": (1, "place:1")}


@pytest.mark.usefixtures("no_doubt")
def test_a_run_of_a_pool_that_was_started_twice_is_the_first_of_both(run: RunDir):
    pool_runs, node = PoolRuns(), Node(run, answers=False)
    pool_runs.add(run.path, 1, {})
    turn(pool_runs, node, {})
    first = read_json(run.attempt(1).lock(0)) or {}
    run.attempt(1).lock(0).unlink()  # it is slow to begin
    node.answers = True
    turn(pool_runs, node, {})
    assert pool_runs.processes() == {"a-run": (2, "place:2")}
    write_json(run.attempt(1).lock(0), first)
    turn(pool_runs, node, {})  # the second has found that it is not alone, and has ended
    assert pool_runs.processes() == {"a-run": (1, "place:1")}
    assert (entry(pool_runs)["state"], entry(pool_runs)["attempt"], node.started) == ("sent", 1, 2)
