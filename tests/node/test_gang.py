"""Runs over several nodes: their programs find each other, train as one, and end together, whoever ends first."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.node import processes
from mlnb.rundir import RunDir, look
from tests.conftest import Start
from tests.node.allocation import Allocation
from tests.waiting import until

Allocate = Callable[..., Allocation]

SOON = 8.0
"""Seconds within which all has ended, on a slow machine; without the gang it would be minutes, or for ever."""

FOREVER = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"

_TRAIN = """
import hashlib, torch
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
X = torch.randn(32, 4, generator=torch.Generator().manual_seed(5))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(2):
    for (a,) in DataLoader(TensorDataset(X), batch_size=4, shuffle=True):
        optimizer.zero_grad()
        (model(a) - a.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""

_COLLECTIVE = """
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
for step in range(100000):
    print("step", flush=True)
    if rank == FAILS and step == 3:
        HOW
    dist.all_reduce(torch.ones(1))
    time.sleep(0.02)
"""


@pytest.fixture
def allocate() -> Iterator[Allocate]:
    """A run that waits for its node programs to be started; they end with the test."""
    made: list[Allocation] = []

    def allocation(*args: object, **more: object) -> Allocation:
        made.append(Allocation(*args, **more))  # type: ignore[arg-type]
        return made[-1]

    yield allocation
    for one in made:
        one.end()


def ended(allocation: Allocation) -> bool:
    """Whether no rank of any node is left."""
    pids = [pid for node in allocation.programs for pid in allocation.ranks(node)]
    return all(processes.identity(pid) is None for pid in pids)


# together


def test_two_nodes_train_as_two_ranks_of_one(allocate: Allocate, start: Start):
    allocation = allocate(_TRAIN)
    allocation.start()
    assert allocation.codes() == [0, 0], allocation.output()
    run = allocation.run
    assert (run.state, run.reason) == ("succeeded", "")
    one = start(_TRAIN, ranks=2, cpus=1).wait(60)
    assert run.logs(0, "out") == run.logs(1, "out") == one.logs(0, "out")
    assert list(run.series()["loss"].value) == list(one.series()["loss"].value)


def test_every_rank_of_every_node_has_torchruns_contract_and_no_name_to_resolve(allocate: Allocate):
    names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE MASTER_ADDR GLOO_SOCKET_IFNAME"
    allocation = allocate(f"import os\nprint(*(os.environ[name] for name in '{names}'.split()))", nodes=3, ranks=2)
    allocation.start(2, 0, 1)  # in whatever order they come
    assert allocation.codes() == [0, 0, 0], allocation.output()
    for rank in range(6):
        said = allocation.run.logs(rank, "out").split()
        assert said == [str(rank), str(rank % 2), "6", "2", str(rank // 2), "3", "127.0.0.1", "lo"]


def test_a_later_node_is_waited_for(allocate: Allocate):
    allocation = allocate("print('on')")
    allocation.start(0)
    until(lambda: look(allocation.run.directory.attempt(1).rendezvous))
    assert allocation.run.state in ("pending", "starting")
    assert not allocation.run.logs(0)
    allocation.start(1)
    assert allocation.codes() == [0, 0], allocation.output()


def test_where_node_0_is_can_be_read_by_its_owner_only(allocate: Allocate):
    allocation = allocate(FOREVER)
    allocation.start(0)
    path = allocation.run.directory.attempt(1).rendezvous
    until(lambda: look(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_does_not_know_the_token_is_refused_and_the_run_goes_on(allocate: Allocate):
    allocation = allocate("print('on')")
    allocation.start(0)
    there = until(lambda: look(allocation.run.directory.attempt(1).rendezvous))
    for hello in (b'{"node": 1, "host": "x", "nonce": "a", "proof": "b"}\n', b"GET / HTTP/1.1\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", there["port"]), 5) as stranger:
            file = stranger.makefile("rb")
            assert "nonce" in json.loads(file.readline())
            stranger.sendall(hello)
            if hello.startswith(b"{"):
                assert "the token is wrong" in json.loads(file.readline())["refused"]
            stranger.shutdown(socket.SHUT_WR)
            assert file.readline() == b""
    allocation.start(1)
    assert allocation.codes() == [0, 0], allocation.output()
    assert allocation.run.state == "succeeded"


def test_a_node_that_does_not_come_is_named(allocate: Allocate):
    allocation = allocate("print('on')", nodes=3, gather=2)
    allocation.start(0, 2)
    assert allocation.codes() == [1, 1]
    assert (allocation.run.state, allocation.run.reason) == ("failed", "node 1 of 3 did not come within 2 s")
    assert not allocation.run.logs(0)


def test_a_node_that_comes_when_all_is_over_ends_at_once(allocate: Allocate):
    allocation = allocate("print('on')", gather=2)
    allocation.start(0)
    assert allocation.codes() == [1]
    allocation.start(1)
    assert allocation.codes(SOON) == [1, 1]
    assert allocation.event("ending", 1)["reason"] == "node 0 had ended before this node found it"


def test_without_node_0_the_others_say_so(allocate: Allocate):
    allocation = allocate("print('on')", gather=1)
    allocation.start(1)
    allocation.programs[1].wait(60)
    assert allocation.event("ending", 1)["reason"] == "node 0 was not to be found within 1 s"


# ending together


def test_a_rank_that_fails_ends_all_and_is_the_reason(allocate: Allocate):
    """The other rank's connection breaks first, as its own node sees it: that is a consequence."""
    script = _COLLECTIVE.replace("FAILS", "1").replace("HOW", "raise ValueError('mine')")
    allocation = allocate(script)
    allocation.start()
    allocation.says("step\nstep\nstep\nstep", 1)
    before = time.monotonic()
    assert allocation.codes() == [1, 1]
    assert time.monotonic() - before < SOON
    result = allocation.run.result
    assert result is not None
    assert result["reason"] == "rank 1 on node 1 (host1): ValueError: mine"
    assert (result["error"]["rank"], result["error"]["node"], result["error"]["host"]) == (1, 1, "host1")
    assert "ValueError: mine" in result["error"]["text"]
    assert ended(allocation)


def test_a_rank_that_is_killed_ends_all_and_is_the_reason(allocate: Allocate):
    allocation = allocate(_COLLECTIVE.replace("FAILS", "1").replace("HOW", "os.kill(os.getpid(), 9)"))
    allocation.start()
    assert allocation.codes() == [137, 137]
    assert allocation.run.reason == "rank 1 on node 1 (host1) was killed by SIGKILL"
    assert ended(allocation)


@pytest.mark.parametrize("script", [FOREVER, _COLLECTIVE.replace("FAILS", "-1").replace("HOW", "pass")])
def test_a_node_that_is_lost_ends_all(allocate: Allocate, script: str):
    allocation = allocate(script, nodes=3)
    allocation.start()
    for rank in range(3):
        until(lambda rank=rank: allocation.run.logs(rank, "out"))
    before = time.monotonic()
    allocation.programs[1].kill()
    assert allocation.codes()[::2] == [1, 1]
    assert time.monotonic() - before < SOON
    assert (allocation.run.state, allocation.run.reason) == ("failed", "node 1 was lost (host1)")
    assert ended(allocation)


def test_without_node_0_the_others_end_their_ranks_at_once(allocate: Allocate):
    allocation = allocate(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER, nodes=3, grace=60.0
    )
    allocation.start()
    for rank in range(3):
        allocation.says("on", rank)
    before = time.monotonic()
    allocation.programs[0].kill()
    assert allocation.codes()[1:] == [1, 1]
    assert time.monotonic() - before < SOON
    until(lambda: ended(allocation))
    assert "node 0 was lost" in allocation.event("ending", 1)["reason"]
    assert allocation.run.state == "lost"


def test_a_cancelled_run_ends_on_all_nodes_without_a_signal(allocate: Allocate):
    script = "try:\n" + "".join(f"    {line}\n" for line in FOREVER.splitlines()) + "finally:\n    print('off')"
    allocation = allocate(script)
    allocation.start()
    for rank in range(2):
        allocation.says("on", rank)
    allocation.run.directory.cancel.write_text('{"by": "me on here"}')
    assert allocation.codes() == [1, 1]
    assert (allocation.run.state, allocation.run.reason) == ("cancelled", "cancelled by me on here")
    assert [allocation.run.logs(rank, "out") for rank in range(2)] == ["on\noff\n"] * 2


def test_a_run_cancelled_while_its_nodes_gather_is_cancelled(allocate: Allocate):
    allocation = allocate(FOREVER, nodes=3)
    allocation.start(0, 1)
    until(lambda: look(allocation.run.directory.attempt(1).rendezvous))
    allocation.run.directory.cancel.write_text('{"by": "me on here"}')
    assert allocation.codes() == [1, 1]
    assert allocation.run.state == "cancelled"


def test_the_script_that_leaves_with_the_code_for_queueing_again_has_just_failed(allocate: Allocate):
    allocation = allocate("import sys\nsys.exit(75)", requeue=True)
    allocation.start()
    assert allocation.codes() == [1, 1]
    assert (allocation.run.state, allocation.run.exit_code) == ("failed", 75)


# again


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
    whole = start(_epochs(folder), ranks=2, cpus=1).wait(60)
    assert run.logs(0, "out").splitlines()[-1] == whole.logs(0, "out").splitlines()[-1]
    assert list(run.series()["loss"].value) == list(whole.series()["loss"].value)


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
    assert look(allocation.run.directory.result) is None
    last = allocation.events()[-1]
    assert last["event"] == "interrupted"
    assert "told to end (SIGTERM" in last["reason"]
    run = Run(RunDir(allocation.run.dir))
    assert (run.state, run.reason.startswith(last["reason"])) == ("failed", True)
    goes_on(allocation, tmp_path, start)


@pytest.mark.parametrize(
    ("requeue", "code", "told"), [(True, 143, ("interrupted", None)), (False, 1, ("ended", "failed"))]
)
def test_a_run_on_one_node_is_preempted_likewise_if_it_may_be_queued_again(
    allocate: Allocate, requeue: bool, code: int, told: tuple[str, str | None]
):
    allocation = allocate(FOREVER, nodes=1, requeue=requeue)
    allocation.start()
    allocation.says("on", 0)
    os.kill(allocation.ranks(0)[0], signal.SIGTERM)
    allocation.programs[0].send_signal(signal.SIGTERM)
    assert allocation.codes() == [code]
    result = look(allocation.run.directory.result) or {}
    assert (allocation.events()[-1]["event"], result.get("state")) == told
    assert allocation.run.state == "failed"
    assert allocation.run.reason.startswith("told to end (SIGTERM) by the system, not through mlnb")


def test_a_warned_run_ends_behind_a_checkpoint_and_asks_to_be_queued_again(
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
    assert look(allocation.run.directory.result) is None
    said = allocation.events()[-1]["reason"]
    assert said.startswith("it was warned (SIGUSR1) that the end is near; rank ")
    assert said.endswith(" ended behind a checkpoint")
    assert [path.name for path in allocation.run.checkpoints()][-1] == "epoch-000004.pt"
    allocation.start(attempt=2, MLNB_RESTARTS="1")
    assert allocation.codes() == [0, 0], allocation.output()
    assert (allocation.run.state, allocation.run.attempts) == ("succeeded", 2)


def test_a_run_out_of_time_asks_to_be_queued_again_if_it_made_a_checkpoint(allocate: Allocate, tmp_path: Path):
    allocation = allocate(_epochs(tmp_path), requeue=True, grace=1.0)
    allocation.start(MLNB_DEADLINE=str(time.time() + 15))
    assert allocation.codes() == [75, 75], allocation.output()
    assert allocation.events()[-1]["reason"].startswith("out of time: ")
    assert allocation.event("warned", 1)["why"].endswith("of its time were left")
    allocation.start(attempt=2, options=("--restarts", "1"), MLNB_DEADLINE=str(time.time() + 10))
    assert allocation.codes() == [1, 1]  # it came as far as before: for ever, that would be
    assert allocation.run.state == "failed"
    assert allocation.run.reason.endswith("; no checkpoint was made in this attempt (mlnb.epochs makes them)")


def test_a_node_lost_behind_a_checkpoint_is_no_end_either(allocate: Allocate, start: Start, tmp_path: Path):
    allocation = allocate(_epochs(tmp_path), requeue=True)
    allocation.start()
    allocation.says("epoch 3", 0)
    allocation.says("epoch 3", 1)
    allocation.programs[1].kill()
    assert allocation.programs[0].wait(60) == 75
    assert allocation.events()[-1]["reason"] == "node 1 was lost (host1)"
    allocation.programs[1].wait()
    goes_on(allocation, tmp_path, start)


def test_a_job_that_is_queued_again_as_its_run_ends_leaves_the_result_alone(allocate: Allocate):
    """So it is where the system preempts it in its last moments."""
    allocation = allocate("print('on')", requeue=True)
    allocation.start()
    assert allocation.codes() == [0, 0], allocation.output()
    result = allocation.run.result
    allocation.start(attempt=2, options=("--restarts", "1"))
    assert allocation.codes() == [0, 0], allocation.output()
    assert (allocation.run.attempts, allocation.run.result) == (1, result)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("*** JOB 7 ON node3 CANCELLED AT 2026-01-02T03:04:05 DUE TO PREEMPTION ***", "preempted: it had to make room"),
        ("*** STEP 7.0 ON n[1-2] CANCELLED AT 2026-01-02T03:04:05 DUE TO JOB REQUEUE ***", "sent back to the queue"),
        ("*** JOB 7 ON node3 CANCELLED AT 2026-01-02T03:04:05 ***", "told to end (SIGTERM"),
        ("what my script prints DUE TO PREEMPTION", "told to end (SIGTERM"),
    ],
)
def test_the_system_s_reason_is_read_in_the_log_of_the_job(allocate: Allocate, said: str, why: str):
    allocation = allocate(FOREVER)
    log = allocation.run.directory.attempt(1).job_log
    log.write_text("slurmstepd: *** JOB 7 ON node3 CANCELLED AT 2026-01-02T00:00:00 DUE TO TIME LIMIT ***\n")  # before
    allocation.start()
    allocation.says("on", 0)
    with log.open("a") as file:
        file.write(f"slurmstepd-node3: error: {said}\n")
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
    assert allocation.run.reason.endswith("; --resume gang goes on from its newest checkpoint")
