"""Runs over several nodes: their programs find each other, train as one, and end together, whoever ends first."""

from __future__ import annotations

import json
import socket

import pytest

from mlnb.node.process.identity import process_identity
from mlnb.rundir import read_json_fresh
from tests.conftest import Start
from tests.node.allocation import FOREVER, Allocate, Allocation
from tests.waiting import until

pytestmark = pytest.mark.cluster

SOON = 8.0
"""Seconds within which all has ended, on a slow machine; without a rendezvous it would be minutes, or for ever."""

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


def ended(allocation: Allocation) -> bool:
    """Whether no rank of any node is left."""
    pids = [pid for node in allocation.programs for pid in allocation.ranks(node)]
    return all(process_identity(pid) is None for pid in pids)


# together


def test_two_nodes_train_as_two_ranks_of_one(allocate: Allocate, start: Start):
    allocation = allocate(_TRAIN)
    allocation.start()
    assert allocation.codes() == [0, 0], allocation.output()
    run = allocation.run
    assert (run.state, run.reason) == ("succeeded", "")
    single = start(_TRAIN, ranks=2, cpus=1).wait(60)
    assert run.logs(0, "out") == run.logs(1, "out") == single.logs(0, "out")
    assert list(run.series()["loss"].value) == list(single.series()["loss"].value)


def test_every_rank_has_the_environment_of_torchrun_and_no_host_name_to_resolve(allocate: Allocate):
    names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE MASTER_ADDR GLOO_SOCKET_IFNAME"
    allocation = allocate(f"import os\nprint(*(os.environ[name] for name in '{names}'.split()))", nodes=3, ranks=2)
    allocation.start(2, 0, 1)  # in whatever order they come
    assert allocation.codes() == [0, 0, 0], allocation.output()
    for rank in range(6):
        printed = allocation.run.logs(rank, "out").split()
        assert printed == [str(rank), str(rank % 2), "6", "2", str(rank // 2), "3", "127.0.0.1", "lo"]


def test_node_0_waits_for_a_later_node(allocate: Allocate):
    allocation = allocate("print('on')")
    allocation.start(0)
    until(lambda: read_json_fresh(allocation.run.directory.attempt(1).rendezvous))
    assert allocation.run.state in ("pending", "starting")
    assert not allocation.run.logs(0)
    allocation.start(1)
    assert allocation.codes() == [0, 0], allocation.output()


def test_only_the_owner_can_read_the_rendezvous_file(allocate: Allocate):
    allocation = allocate(FOREVER)
    allocation.start(0)
    path = allocation.run.directory.attempt(1).rendezvous
    until(lambda: read_json_fresh(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_client_without_the_token_is_refused_and_the_run_goes_on(allocate: Allocate):
    allocation = allocate("print('on')")
    allocation.start(0)
    coordinator = until(lambda: read_json_fresh(allocation.run.directory.attempt(1).rendezvous))
    for hello in (b'{"node": 1, "host": "x", "nonce": "a", "proof": "b"}\n', b"GET / HTTP/1.1\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", coordinator["port"]), 5) as stranger:
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


def test_a_node_that_does_not_connect_is_named(allocate: Allocate):
    allocation = allocate("print('on')", nodes=3, rendezvous_timeout=2)
    allocation.start(0, 2)
    assert allocation.codes() == [1, 1]
    assert (allocation.run.state, allocation.run.reason) == ("failed", "node 1 of 3 did not connect within 2 s")
    assert not allocation.run.logs(0)


def test_a_node_that_starts_after_the_end_of_the_run_ends_at_once(allocate: Allocate):
    allocation = allocate("print('on')", rendezvous_timeout=2)
    allocation.start(0)
    assert allocation.codes() == [1]
    allocation.start(1)
    assert allocation.codes() == [1, 1]
    assert allocation.event("ending", 1)["reason"] == "node 0 ended before this node connected"


def test_nodes_that_can_not_reach_node_0_say_so(allocate: Allocate):
    allocation = allocate("print('on')", rendezvous_timeout=1)
    allocation.start(1)
    allocation.programs[1].wait(60)
    assert allocation.event("ending", 1)["reason"] == "node 0 could not be reached within 1 s"


# ending together


def test_a_rank_that_fails_stops_all_and_is_the_reason(allocate: Allocate):
    """The other rank's connection breaks first, as its own node sees it: that is a consequence."""
    script = _COLLECTIVE.replace("FAILS", "1").replace("HOW", "raise ValueError('mine')")
    allocation = allocate(script)
    allocation.start()
    allocation.says("step\nstep\nstep\nstep", 1)
    assert allocation.codes() == [1, 1]
    result = allocation.run.result
    assert result is not None
    assert result["reason"] == "rank 1 on node 1 (host1): ValueError: mine"
    assert (result["error"]["rank"], result["error"]["node"], result["error"]["host"]) == (1, 1, "host1")
    assert "ValueError: mine" in result["error"]["text"]
    assert ended(allocation)


def test_a_rank_that_is_killed_stops_all_and_is_the_reason(allocate: Allocate):
    allocation = allocate(_COLLECTIVE.replace("FAILS", "1").replace("HOW", "os.kill(os.getpid(), 9)"))
    allocation.start()
    assert allocation.codes() == [137, 137]
    assert allocation.run.reason == "rank 1 on node 1 (host1) was killed by SIGKILL"
    assert ended(allocation)


@pytest.mark.parametrize("script", [FOREVER, _COLLECTIVE.replace("FAILS", "-1").replace("HOW", "pass")])
def test_the_loss_of_a_node_stops_all(allocate: Allocate, script: str):
    allocation = allocate(script, nodes=3)
    allocation.start()
    for rank in range(3):
        until(lambda rank=rank: allocation.run.logs(rank, "out"))
    allocation.programs[1].kill()
    assert allocation.codes()[::2] == [1, 1]
    assert (allocation.run.state, allocation.run.reason) == ("failed", "node 1 was lost (host1)")
    assert ended(allocation)


def test_nodes_that_lose_node_0_stop_their_ranks_at_once(allocate: Allocate):
    allocation = allocate(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER, nodes=3, grace=1000.0
    )
    allocation.start()
    for rank in range(3):
        allocation.says("on", rank)
    allocation.programs[0].kill()
    assert allocation.codes()[1:] == [1, 1]
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
    assert (allocation.run.state, allocation.run.reason) == ("cancelled", "stopped by me on here")
    assert [allocation.run.logs(rank, "out") for rank in range(2)] == ["on\noff\n"] * 2


def test_a_run_can_be_cancelled_while_its_nodes_connect(allocate: Allocate):
    allocation = allocate(FOREVER, nodes=3)
    allocation.start(0, 1)
    until(lambda: read_json_fresh(allocation.run.directory.attempt(1).rendezvous))
    allocation.run.directory.cancel.write_text('{"by": "me on here"}')
    assert allocation.codes() == [1, 1]
    assert allocation.run.state == "cancelled"


def test_a_script_that_exits_with_the_requeue_code_has_failed(allocate: Allocate):
    allocation = allocate("import sys\nsys.exit(75)", requeue=True)
    allocation.start()
    assert allocation.codes() == [1, 1]
    assert (allocation.run.state, allocation.run.exit_code) == ("failed", 75)


def test_an_attempt_ends_without_a_result_once_a_later_one_has_started(allocate: Allocate):
    """So it is on a node that the system has lost sight of, and that goes on all the same."""
    allocation = allocate(FOREVER, nodes=1, requeue=True)
    allocation.start()
    allocation.says("on", 0)
    allocation.run.directory.attempt(2).path.mkdir()
    assert allocation.codes() == [1]
    assert read_json_fresh(allocation.run.directory.result) is None
    assert ended(allocation)
