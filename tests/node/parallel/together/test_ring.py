"""The ring of connections between ranks."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from mlnb.node.parallel.together.ring import Ring
from tests.waiting import until


def connect(world: int, store: dist.Store) -> list[Ring]:
    """The rings of all ranks, which connect at the same time."""
    with ThreadPoolExecutor(world) as ranks:
        return list(ranks.map(lambda rank: Ring(rank, world, store, "127.0.0.1"), range(world)))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_each_rank_receives_what_the_one_before_sends(world: int):
    rings = connect(world, dist.HashStore())
    for turn in range(3):
        for rank, ring in enumerate(rings):
            ring.send(bytearray(b"%d" % (10 * rank + turn)).rjust(40))
        for rank, ring in enumerate(rings):
            received = bytearray(40)
            ring.receive(received)
            assert int(received) == 10 * ((rank - 1) % world) + turn
    for ring in rings:
        ring.close()


def test_a_rank_that_has_ended_is_named_after_what_it_had_sent():
    first, second = connect(2, dist.HashStore())
    first.send(bytearray(b"last"))
    first.close()
    received = bytearray(4)
    second.receive(received)
    assert received == b"last"
    with pytest.raises(ConnectionError, match="rank 0 has ended"):
        second.receive(received)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * 100])
def test_a_stranger_that_connects_is_sent_away(said: bytes):
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as ranks:
        first = ranks.submit(Ring, 0, 2, store, "127.0.0.1")
        until(lambda: store.check(["ring/0"]))
        host, port, _ = store.get("ring/0").decode().split()
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(said)
        second = ranks.submit(Ring, 1, 2, store, "127.0.0.1")
        second.result().send(bytearray(b"header"))
        received = bytearray(6)
        first.result().receive(received)
        assert received == b"header"


def test_who_waits_long_is_called(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlnb.node.parallel.together.ring._LONG", 0.05)
    first, second = connect(2, dist.HashStore())
    received, turns = bytearray(4), []

    def on_wait() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            second.send(bytearray(b"late"))

    first.receive(received, on_wait)
    assert received == b"late"
    assert turns == [0, 1, 2]
