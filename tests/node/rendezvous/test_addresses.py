"""Nodes find each other by whatever addresses they have, in network namespaces of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from mlnb.node.rendezvous import addresses
from mlnb.rundir import read_json_fresh
from tests.node.allocation import Allocate

_REDUCE = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.tensor([float(dist.get_rank()) + 1])
dist.all_reduce(x)
print(os.environ["MASTER_ADDR"], os.environ["GLOO_SOCKET_IFNAME"], x.item())
"""


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)


Machines = Callable[[str], list[list[str]]]


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Two machines with a cable between them; what takes a command there. ``{}`` of their addresses is 1 and 2."""
    made = [f"mlnb-{os.getpid()}-{number}" for number in (1, 2)]

    def wired(address: str) -> list[list[str]]:
        try:
            for name in made:
                _ip(f"netns add {name}")
            _ip(f"link add mlnb1 netns {made[0]} type veth peer name mlnb2 netns {made[1]}")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("can't make network namespaces here (ip netns, root)")
        for number, name in enumerate(made, 1):
            nodad = " nodad" if ":" in address else ""
            _ip(f"-n {name} addr add {address.format(number)} dev mlnb{number}{nodad}")
            _ip(f"-n {name} link set lo up")
            _ip(f"-n {name} link set mlnb{number} up")
        return [["ip", "netns", "exec", name] for name in made]

    yield wired
    for name in made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("network", "first"), [("fd00:6d6c::{}/64", "fd00:6d6c::1"), ("10.109.108.{}/24", "10.109.108.1")]
)
def test_two_nodes_connect_by_the_only_addresses_that_they_have(
    allocate: Allocate, machines: Machines, network: str, first: str
):
    allocation = allocate(_REDUCE, rendezvous_timeout=30)
    allocation.inside = dict(enumerate(machines(network)))
    allocation.start()
    assert allocation.codes() == [0, 0], allocation.output()
    assert [allocation.run.logs(rank, "out") for rank in range(2)] == [f"{first} mlnb{n} 3.0\n" for n in (1, 2)]
    rendezvous = read_json_fresh(allocation.run.directory.attempt(1).rendezvous) or {}
    assert set(rendezvous["addresses"]) - {"127.0.0.1", "::1"} == {first}


def test_link_local_addresses_are_left_out():
    listed = [address for _, address in addresses.interface_addresses()]
    assert "127.0.0.1" in listed
    assert not [address for address in listed if address.startswith("fe80")]
    assert len(listed) == len(set(listed))
