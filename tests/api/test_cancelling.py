"""Many runs are cancelled at the same time, and a cancel that was interrupted is made good by the next."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dask.config
import pytest

from mlnb.api import Run
from mlnb.api.cancelling import cancel_runs
from mlnb.api.read import state
from mlnb.api.submit.submit import submit
from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json
from mlnb.targets.base import Offer, Status
from mlnb.targets.many import call_at_once
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.node.allocation import ByHand
from tests.waiting import until

STUBBORN = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
print("on", flush=True)
while True: time.sleep(0.1)
"""


class Queue(ByHand):
    """A target that ends many jobs by one request."""

    requests: list[list[str]]
    stays = ""

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        return [Status(not self._was_asked(run), "running") for run in runs]

    def _was_asked(self, run: RunDir) -> bool:
        return any(run.path.name in request for request in self.requests)

    def cancel(self, run: RunDir) -> bool:
        raise AssertionError("one by one")

    def cancel_many(self, runs: Sequence[RunDir]) -> list[bool]:
        self.requests.append([run.path.name for run in runs])
        return [run.path.name != self.stays for run in runs]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue("local", {}, Workspace.of_process())
    queue.requests = []
    for module in ("mlnb.api.read.state", "mlnb.api.cancelling"):
        monkeypatch.setattr(f"{module}.target", lambda *_: queue)
    return queue


def put(queue: Queue) -> Run:
    return Run(submit(Task(script=""), {}, queue, Offer(Resources(1, 1, 0, 1)), name="test", env={}))


def test_many_runs_of_a_target_are_cancelled_by_one_request(queue: Queue):
    runs = [put(queue) for _ in range(5)]
    assert cancel_runs([*runs, runs[0]]) == runs
    assert queue.requests == [[run.id for run in runs]]
    assert {run.state for run in runs} == {"cancelled"}
    assert all(run.cancelled_here for run in runs)
    assert cancel_runs(runs) == []
    assert len(queue.requests) == 1


def test_a_run_that_does_not_end_keeps_no_other_from_being_cancelled(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    runs = [put(queue) for _ in range(3)]
    queue.stays = runs[0].id
    with pytest.raises(MlnbError, match=f"{runs[0].id}.* did not end"):
        cancel_runs(runs)
    assert [run.state for run in runs[1:]] == ["cancelled"] * 2


def test_an_empty_cancel_file_of_an_interrupted_cancel_is_written_again(queue: Queue):
    run = put(queue)
    run.directory.cancel.touch()
    cancel_runs([run])
    assert "on" in str((read_json(run.directory.cancel) or {})["by"])


def test_local_runs_that_take_long_to_end_do_so_at_the_same_time(start):
    with dask.config.set({"mlnb.targets.local.grace": 3}):
        runs = [start(STUBBORN, cpus=1) for _ in range(2)]
        until(lambda: all("on" in run.logs() for run in runs))
        began = time.monotonic()
        cancel_runs(runs)
    assert time.monotonic() - began < 6.0
    assert {run.state for run in runs} == {"cancelled"}


def test_calls_at_once_all_end_and_the_first_problem_is_raised():
    done = []

    def call(number: int) -> int:
        done.append(number)
        if number in (1, 2):
            raise MlnbError(str(number))
        return number

    assert call_at_once(call, []) == []
    assert call_at_once(call, [3, 4]) == [3, 4]
    with pytest.raises(MlnbError, match="1"):
        call_at_once(call, [0, 1, 2, 5])
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


def test_lost_runs_wait_together_for_late_results_and_only_once(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    """A result that was written on another machine is visible a moment later; not hours later."""
    monkeypatch.setattr(queue, "poll", lambda runs: [Status(False)] * len(runs))
    pauses: list[float] = []
    monkeypatch.setattr(state.time, "sleep", pauses.append)
    runs = [put(queue) for _ in range(10)]
    look = [run.observable for run in runs]
    assert {seen.state for seen in state.observe(look)} == {"lost"}
    assert len(pauses) == 1
    state.observe(look)
    assert len(pauses) == 1
    now = time.time()
    monkeypatch.setattr(state.time, "time", lambda: now + 3600)
    state.observe([Run(run.directory).observable for run in runs])  # another process, later
    assert len(pauses) == 1


def test_a_late_result_counts(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    run = put(queue)
    monkeypatch.setattr(queue, "poll", lambda runs: [Status(False)] * len(runs))
    late = lambda _: run.directory.result.write_text('{"state": "succeeded", "attempt": 1}')  # noqa: E731
    monkeypatch.setattr(state.time, "sleep", late)
    assert run.state == "succeeded"


@pytest.mark.parametrize("content", ['{"state": "paused", "attempt": 1}', '{"attempt": 1}', '{"state": {}}'])
def test_a_state_that_only_a_newer_version_knows_is_the_end_and_says_so(queue: Queue, content: str):
    from mlnb.render.output_bundle import bundle
    from mlnb.render.summary import status_line

    run = put(queue)
    run.directory.result.write_text(content)
    assert run.done
    assert run.state == "failed"
    assert "which this version of mlnb does not know" in run.reason
    assert "Update mlnb" in status_line(run)
    assert "Update mlnb" in bundle(run)["text/plain"]
