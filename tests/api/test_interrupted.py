"""A run whose attempt was interrupted: what its target says of the job counts, and what its nodes said last."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.api.read import state
from mlnb.api.submit.submit import submit
from mlnb.rundir import RunDir
from mlnb.targets.base import Offer, Status
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.node.allocation import ByHand


class Says(ByHand):
    """A target that says of every job what the test has it say."""

    status = Status(True, "running")

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        return [self.status] * len(runs)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Says:
    place = Says("local", {}, Workspace.of_process())
    monkeypatch.setattr(state, "target", lambda *_: place)
    return place


def put(place: Says, nodes: int = 1) -> Run:
    return Run(submit(Task(script=""), {}, place, Offer(Resources(nodes, 1, 0, 1)), name="test", env={}))


def tell(run: Run, node: int, *events: dict, ago: float = 0.0) -> None:
    """Write what a node says, so many seconds ago."""
    with Path(run.directory.attempt(1).events(node)).open("a") as file:
        for event in events:
            file.write(json.dumps({"t": time.time() - ago, **event}) + "\n")


RUNNING = ({"event": "started", "host": "here"}, {"event": "running"})
INTERRUPTED = ({"event": "ending", "reason": "told to end"}, {"event": "interrupted", "reason": "told to end"})


def test_after_an_interruption_the_target_tells_the_state(place: Says):
    run = put(place)
    tell(run, 0, *RUNNING)
    assert run.state == "running"
    tell(run, 0, *INTERRUPTED)
    place.status = Status(True, "pending", "was queued again")
    assert (run.state, run.reason) == ("pending", "told to end; was queued again")
    place.status = Status(True, "pending", "Queued again; SLURM delays it")
    assert run.reason == "told to end. Queued again; SLURM delays it"
    place.status = Status(True, "pending")
    assert run.reason == "to be queued again: told to end"


def test_an_interrupted_run_that_was_not_queued_again_has_failed(place: Says):
    run = put(place)
    tell(run, 0, *RUNNING, *INTERRUPTED)
    place.status = Status(False, reason="held by an administrator")
    assert (run.state, run.reason) == ("failed", "told to end; held by an administrator")


def test_an_interrupted_run_that_someone_cancelled_is_cancelled(place: Says):
    run = put(place)
    tell(run, 0, *RUNNING, *INTERRUPTED)
    run.directory.cancel.write_text('{"by": "me"}')
    place.status = Status(False)
    assert run.state == "cancelled"


def test_a_run_that_was_queued_again_before_it_could_say_so_waits(place: Says):
    """What the target said may be a few seconds old, so silence must come to it."""
    place.status = Status(True, "pending", "queued again")
    fresh, silent = put(place), put(place)
    tell(fresh, 0, *RUNNING)
    tell(silent, 0, *RUNNING, ago=60)
    assert [run.state for run in (fresh, silent)] == ["running", "pending"]


def test_a_lost_run_tells_what_its_nodes_said_last(place: Says):
    run = put(place, nodes=2)
    tell(run, 0, *RUNNING)
    tell(run, 1, {"event": "ending", "reason": "node 0 was lost (10.0.0.1)"})
    place.status = Status(False, reason="its job vanished")
    assert run.state == "lost"
    assert run.reason.endswith("it was stopping: node 0 was lost (10.0.0.1)")


def test_what_all_nodes_use_is_told_together(place: Says):
    run = put(place, nodes=2)
    for node in range(2):
        told = [
            {"event": "sample", "t": 1000.0 + n, "cpu": 1.5, "memory": 10, "gpus": [{"gpu": "0"}]} for n in range(3)
        ]
        tell(run, node, *RUNNING, *told)
    told = run.all_series()
    assert list(told["mlnb.cpu"].value) == [3.0, 3.0, 3.0]
    assert list(told["mlnb.memory"].step) == [0, 1, 2]
    assert run.progress.usage is not None
    assert [gpu["gpu"] for gpu in run.progress.usage["gpus"]] == ["0", "1"]
    assert run.progress.host == "here and 1 more"


def test_what_the_target_says_of_a_job_that_runs_is_the_reason(place: Says):
    run = put(place)
    tell(run, 0, *RUNNING)
    place.status = Status(True, "running", "is suspended")
    assert (run.state, run.reason) == ("running", "is suspended")


def test_the_state_of_a_run_of_days_parses_no_samples(place: Says, monkeypatch: pytest.MonkeyPatch):
    run = put(place)
    tell(run, 0, *RUNNING, ago=1e6)
    now, samples = time.time(), 100_000
    lines = [json.dumps({"t": now - samples + n, "event": "sample", "cpu": 1.0, "memory": n}) for n in range(samples)]
    with run.directory.attempt(1).events(0).open("a") as file:
        file.write("\n".join(lines) + "\n")
    parsed: list[object] = []
    loads = json.loads
    monkeypatch.setattr("mlnb.rundir.json.loads", lambda data: (parsed.append(data), loads(data))[1])
    other = Run(run.directory)  # as another process sees it
    assert other.state == "running"
    assert other._events.progress.last_heard == pytest.approx(now - 1, abs=0.01)
    assert len(parsed) < 50
    assert len(other.all_series()["mlnb.memory"]) == samples
    assert other.progress.usage is not None
    assert other.progress.usage["memory"] == samples - 1


def test_samples_of_nodes_that_are_read_at_once_are_joined_by_their_times(place: Says):
    run = put(place, nodes=2)
    now = int(time.time()) - 100.0
    for node in range(2):
        tell(run, node, *RUNNING, *({"t": now + n, "event": "sample", "cpu": 1.0, "memory": 10} for n in range(50)))
    memory = run.all_series()["mlnb.memory"]
    assert list(memory.time) == [now + n for n in range(50)]
    assert set(memory.value) == {20}
