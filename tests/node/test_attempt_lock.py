"""An attempt is run once, however often it is started."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from mlnb.node.attempt import lock as attempt_lock
from mlnb.node.process.identity import is_alive
from mlnb.rundir import RunDir, read_json
from mlnb.targets import warm
from mlnb.targets.registry import target
from mlnb.workspace import Workspace
from tests.conftest import Start
from tests.node.allocation import FOREVER, Allocate, Allocation
from tests.waiting import until

_EPOCHS = """
import os, time, mlnb, torch
model = torch.nn.Linear(1, 1)
for epoch in mlnb.epochs(3, model=model):
    print("epoch", epoch, flush=True)
    while epoch == 1 and os.listdir(os.environ["MLNB_RUN"] + "/attempts") == ["001"]: time.sleep(0.01)
"""


def second(allocation: Allocation, node: int = 0) -> tuple[int, str]:
    """Start a node program once more; its exit code and output."""
    first = allocation.programs.pop(node, None)
    try:
        allocation.start(node, attempt=99)
        code = allocation.programs.pop(node).wait(60)
    finally:
        if first is not None:
            allocation.programs[node] = first
    return code, (allocation.run.dir / f"node-{node}-99.log").read_text()


def kinds(allocation: Allocation, attempt: int = 1) -> list[str]:
    return [event["event"] for event in allocation.events(0, attempt) if event["event"] != "sample"]


@pytest.mark.parametrize("node", [0, 1])
def test_a_second_program_of_an_attempt_that_runs_does_not_start(allocate: Allocate, node: int):
    allocation = allocate(FOREVER)
    allocation.start()
    allocation.says("on", 0)
    before = kinds(allocation)
    code, output = second(allocation, node)
    pid = allocation.programs[node].pid
    name = allocation.run.id
    assert (code, output) == (
        1,
        f"mlnb: attempt 1 of run {name} is run by process {pid} on host{node} already; exiting\n",
    )
    assert kinds(allocation) == before
    assert allocation.run.state == "running"
    assert allocation.run.attempts == 1


def test_heartbeats_show_whether_a_program_elsewhere_is_alive(allocate: Allocate, monkeypatch: pytest.MonkeyPatch):
    allocation = allocate(FOREVER, nodes=1)
    allocation.start()
    allocation.says("on", 0)
    files = allocation.run.directory.attempt(1)
    other = attempt_lock.acquire(files, 0) or {}
    monkeypatch.setattr("mlnb.node.process.identity.pid_namespace", lambda: "another machine")
    monkeypatch.setattr(attempt_lock, "PATIENCE", 4.0)
    assert attempt_lock.owner_is_alive(files, 0, other)
    allocation.end()
    assert not attempt_lock.owner_is_alive(files, 0, other)


def test_a_job_restarted_by_a_system_that_does_not_count_restarts_continues_in_the_next_attempt(allocate: Allocate):
    allocation = allocate(_EPOCHS, nodes=1)
    allocation.start()
    allocation.says("epoch 1", 0)
    os.killpg(allocation.programs[0].pid, signal.SIGKILL)
    allocation.programs[0].wait()
    assert second(allocation) == (0, "")
    assert (allocation.run.state, allocation.run.attempts) == ("succeeded", 2)
    assert allocation.run.logs() == "epoch 1\nepoch 2\n"


def test_a_run_that_has_ended_is_not_run_again(allocate: Allocate):
    allocation = allocate("print('once')", nodes=1)
    allocation.start()
    assert allocation.codes() == [0]
    result, before = allocation.run.result, kinds(allocation)
    assert second(allocation) == (0, "")
    assert (allocation.run.result, kinds(allocation)) == (result, before)
    assert allocation.run.attempts == 1


def test_two_requests_for_one_attempt_start_it_once(start: Start):
    run = start(FOREVER)
    until(lambda: "on" in run.logs())
    log = run.directory.attempt(1).path / "node-0.log"
    warm.submit(run.directory, 1, {}, Workspace.of_process())
    until(lambda: "already; exiting" in log.read_text())
    assert run.state == "running"
    assert run.logs() == "on\n"


def test_on_a_full_disk_a_program_runs_without_the_lock(tmp_path: Path):
    """The file can be made there, but not written: no process may write a byte more."""
    pid = os.fork()
    if pid == 0:
        acquired = False
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            acquired = attempt_lock.acquire(RunDir(tmp_path).attempt(1), 0) is None
        finally:
            os._exit(0 if acquired else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_lock_names_its_owner(start: Start):
    run = start(FOREVER)
    until(lambda: run.state == "running")
    owner = read_json(run.directory.attempt(1).lock(0)) or {}
    assert is_alive(owner["pid"], owner["identity"])
    assert owner["host"] == subprocess.run(["uname", "-n"], capture_output=True, text=True).stdout.strip()
    assert target("local").poll([run.directory])[0].alive
