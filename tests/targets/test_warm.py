"""Runs that the fork server starts: none that has ended holds up another, however slow the client is."""

from __future__ import annotations

import os
import shutil
from typing import Any

import psutil
import pytest

from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import RunInfo
from mlnb.targets import warm
from mlnb.workspace import Workspace
from tests.conftest import Start
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not wait for the answer, as on a busy machine; it knows the fork server's pid alone."""
    monkeypatch.setattr(warm, "ANSWER_TIMEOUT", 1e-6)


def test_a_run_that_ends_before_its_client_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch):
    submit = warm.submit

    def slow(run: RunDir, *more: Any) -> int | None:
        pid = submit(run, *more)
        queue = LocalQueue.from_settings(RunInfo.read(run).node.queue_request())
        until(lambda: run.result.exists() and queue.available()[0] == queue.cpus)
        return pid

    with monkeypatch.context() as patch:
        patch.setattr(warm, "submit", slow)
        assert start("x = 1").wait(60).state == "succeeded"
    assert start("x = 1").wait(60).state == "succeeded"


def test_a_run_that_is_removed_before_the_fork_server_turns_to_it(start: Start):
    first = start("x = 1").wait(60)
    server = psutil.Process((read_json(first.directory.handle) or {})["pid"])
    assert str(warm.socket_path(Workspace.of_process())) in server.cmdline()
    server.suspend()
    try:
        shutil.rmtree(start("x = 1").dir)
    finally:
        server.resume()
    assert start("x = 1").wait(60).state == "succeeded"


def test_runs_are_served_in_the_order_of_their_submission(start: Start, monkeypatch: pytest.MonkeyPatch):
    """Nothing but the fork server knows of them while it is busy."""
    first = start("x = 1").wait(60)
    server = psutil.Process((read_json(first.directory.handle) or {})["pid"])
    server.suspend()
    try:
        submitted = [start("import time; print(time.time())", cpus=len(os.sched_getaffinity(0))) for _ in range(5)]
    finally:
        server.resume()
    times = [float(run.wait(60).logs(0, "out")) for run in submitted]
    assert times == sorted(times)
