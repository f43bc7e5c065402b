"""An attempt that the batch system ends leaves no result: another one, of the same job, goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.rundir import RunDir, read_json_fresh
from tests.conftest import Start
from tests.node.allocation import FOREVER, Allocate, Allocation

pytestmark = pytest.mark.cluster


def _epochs(folder: Path) -> str:
    """Six epochs that wait in the fourth until there is a file ``go``."""
    return f"""
import time, mlnb, torch
from pathlib import Path
torch.set_default_dtype(torch.float64)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
X = torch.arange(32.0).reshape(8, 4) / 32
for epoch in mlnb.epochs(6, model=model, optimizer=optimizer):
    print("epoch", epoch, flush=True)
    while epoch == 3 and not Path({str(folder / "go")!r}).exists():
        time.sleep(0.01)
    optimizer.zero_grad()
    model(X).square().mean().backward()
    optimizer.step()
print(repr(model.weight.tolist()))
"""


def goes_on(allocation: Allocation, folder: Path, start: Start) -> None:
    """The second attempt comes to the end that one without an interruption would have come to."""
    (folder / "go").touch()
    allocation.start(attempt=2, options=("--restarts", "1"))
    assert allocation.codes() == [0, 0], allocation.output()
    run = allocation.run
    assert (run.state, run.attempts) == ("succeeded", 2)
    assert [line for line in run.logs(0, "out").splitlines() if line.startswith("epoch")] == [
        f"epoch {n}" for n in range(3, 6)
    ]
    uninterrupted = start(_epochs(folder), ranks=2, cpus=1).wait(60)
    assert run.logs(0, "out").splitlines()[-1] == uninterrupted.logs(0, "out").splitlines()[-1]
    assert list(run.series()["loss"].value) == list(uninterrupted.series()["loss"].value)


@pytest.mark.parametrize("first", ["programs", "ranks"])
def test_a_preempted_run_goes_on_in_its_next_attempt(allocate: Allocate, start: Start, tmp_path: Path, first: str):
    """The system tells programs and ranks to end, in whatever order."""
    allocation = allocate(_epochs(tmp_path), requeue=True)
    allocation.start()
    allocation.says("epoch 3", 0)
    allocation.says("epoch 3", 1)
    pids = [pid for node in range(2) for pid in allocation.ranks(node)]
    programs = [program.pid for program in allocation.programs.values()]
    for pid in [*programs, *pids] if first == "programs" else [*pids, *programs]:
        os.kill(pid, signal.SIGTERM)
        if first == "ranks" and pid == pids[-1]:
            time.sleep(0.3)  # not for a condition: so much later it hears of it
    assert allocation.codes() == [143, 143]
    assert read_json_fresh(allocation.run.directory.result) is None
    last = allocation.events()[-1]
    assert last["event"] == "interrupted"
    assert last["reason"] == "Stopped by the system, not through mlnb"
    assert last["detail"].startswith("SIGTERM was received on node ")
    run = Run(RunDir(allocation.run.dir))
    assert (run.state, run.reason.startswith(last["reason"])) == ("failed", True)
    goes_on(allocation, tmp_path, start)


@pytest.mark.parametrize(
    ("requeue", "code", "end"), [(True, 143, ("interrupted", None)), (False, 1, ("ended", "failed"))]
)
def test_a_preempted_run_on_one_node_goes_on_if_it_may_be_queued_again(
    allocate: Allocate, requeue: bool, code: int, end: tuple[str, str | None]
):
    allocation = allocate(FOREVER, nodes=1, requeue=requeue)
    allocation.start()
    allocation.says("on", 0)
    os.kill(allocation.ranks(0)[0], signal.SIGTERM)
    allocation.programs[0].send_signal(signal.SIGTERM)
    assert allocation.codes() == [code]
    result = read_json_fresh(allocation.run.directory.result) or {}
    assert (allocation.events()[-1]["event"], result.get("state")) == end
    assert allocation.run.state == "failed"
    assert allocation.run.reason.startswith("Stopped by the system, not through mlnb")
    assert requeue or result["notes"] == ["SIGTERM was received"]


def test_a_warned_run_ends_after_a_checkpoint_and_asks_to_be_queued_again(
    allocate: Allocate, start: Start, tmp_path: Path
):
    allocation = allocate(_epochs(tmp_path), requeue=True)
    allocation.start()
    allocation.says("epoch 3", 0)
    allocation.says("epoch 3", 1)
    allocation.programs[1].send_signal(signal.SIGUSR1)  # one alone is warned
    allocation.event("warned", 0)
    (tmp_path / "go").touch()
    assert allocation.codes() == [75, 75]
    assert read_json_fresh(allocation.run.directory.result) is None
    last = allocation.events()[-1]
    assert last["reason"] == "Warned by the batch system that the job will end. Checkpoint saved at step 4"
    assert last["detail"].startswith("SIGUSR1 was received on node 1 (host1); rank ")
    assert last["detail"].endswith(" exited with code 143")
    assert [path.name for path in allocation.run.checkpoints()][-1] == "epoch-000004.pt"
    allocation.start(attempt=2, MLNB_RESTARTS="1")
    assert allocation.codes() == [0, 0], allocation.output()
    assert (allocation.run.state, allocation.run.attempts) == ("succeeded", 2)


def test_a_run_out_of_time_asks_to_be_queued_again_if_it_made_a_checkpoint(allocate: Allocate, tmp_path: Path):
    allocation = allocate(_epochs(tmp_path), requeue=True, grace=1.0)
    allocation.start(MLNB_DEADLINE=str(time.time() + 25))
    assert allocation.codes() == [75, 75], allocation.output()
    assert allocation.events()[-1]["reason"].startswith("Out of time (")
    assert allocation.event("warned", 1)["why"].startswith("Out of time (")
    assert allocation.event("warned", 1)["detail"].endswith(" s before the end")
    allocation.start(attempt=2, options=("--restarts", "1"), MLNB_DEADLINE=str(time.time() + 10))
    assert allocation.codes() == [1, 1]  # it came as far as before: for ever, that would be
    assert allocation.run.state == "failed"
    assert allocation.run.reason.endswith(". No checkpoint was saved in this attempt (mlnb.epochs saves them)")


def test_a_run_that_loses_a_node_after_a_checkpoint_goes_on(allocate: Allocate, start: Start, tmp_path: Path):
    allocation = allocate(_epochs(tmp_path), requeue=True)
    allocation.start()
    allocation.says("epoch 3", 0)
    allocation.says("epoch 3", 1)
    allocation.programs[1].kill()
    assert allocation.programs[0].wait(60) == 75
    assert allocation.events()[-1]["reason"] == "node 1 was lost (host1)"
    allocation.programs[1].wait()
    goes_on(allocation, tmp_path, start)


def test_a_job_that_is_queued_again_after_the_result_was_written_does_not_change_it(allocate: Allocate):
    """So it is where the system preempts it in its last moments."""
    allocation = allocate("print('on')", requeue=True)
    allocation.start()
    assert allocation.codes() == [0, 0], allocation.output()
    result = allocation.run.result
    allocation.start(attempt=2, options=("--restarts", "1"))
    assert allocation.codes() == [0, 0], allocation.output()
    assert (allocation.run.attempts, allocation.run.result) == (1, result)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "*** JOB 7 ON node3 CANCELLED AT 2026-01-02T03:04:05 DUE TO PREEMPTION ***",
            "Preempted by a job of higher priority",
        ),
        ("*** STEP 7.0 ON n[1-2] CANCELLED AT 2026-01-02T03:04:05 DUE TO JOB REQUEUE ***", "Sent back to the queue"),
        ("*** JOB 7 ON node3 CANCELLED AT 2026-01-02T03:04:05 ***", "Stopped by the system"),
        ("what my script prints DUE TO PREEMPTION", "Stopped by the system"),
    ],
)
def test_the_system_s_reason_is_read_in_the_log_of_the_job(allocate: Allocate, line: str, why: str):
    allocation = allocate(FOREVER)
    log = allocation.run.directory.attempt(1).job_log
    log.write_text("slurmstepd: *** JOB 7 ON node3 CANCELLED AT 2026-01-02T00:00:00 DUE TO TIME LIMIT ***\n")  # before
    allocation.start()
    allocation.says("on", 0)
    with log.open("a") as file:
        file.write(f"slurmstepd-node3: error: {line}\n")
    allocation.programs[0].send_signal(signal.SIGTERM)
    assert allocation.codes() == [1, 1]
    assert allocation.run.reason.startswith(why)


def test_a_run_that_is_not_queued_again_says_that_it_can_be_resumed(allocate: Allocate, tmp_path: Path):
    allocation = allocate(_epochs(tmp_path))
    allocation.start()
    allocation.says("epoch 3", 0)
    allocation.programs[0].send_signal(signal.SIGTERM)
    assert allocation.codes() == [1, 1]
    assert allocation.run.state == "failed"
    assert allocation.run.reason.endswith(". Continue with --resume nodes")
