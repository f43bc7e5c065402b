"""Ranks that have to stop at different moments stop after the same step, or none does."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from mlnb.node.checkpoint.stop_consensus import StopConsensus

STEPS = 30


class Steps:
    """Keeps ranks together: none begins a step while another has done ``slack`` steps less."""

    def __init__(self, world: int, slack: int) -> None:
        self._done, self._slack, self._changed = [0] * world, slack, threading.Condition()

    def make(self, rank: int) -> None:
        with self._changed:
            self._done[rank] += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: min(self._done) > self._done[rank] - self._slack, 20), "a deadlock"


def stops(heard: list[int | None], slack: int, seed: int) -> list[int | None]:
    """Return the step after which each rank stops, if it has to from its own step on (``None``: never)."""
    world, store = len(heard), dist.HashStore()
    steps = Steps(world, slack)

    def train(rank: int) -> int | None:
        chance, consensus = random.Random(seed * world + rank), StopConsensus("x", rank, world, store)
        first = heard[rank]
        for position in range(1, STEPS):
            if (
                first is not None and position >= first and consensus.stops_at(10 * position)
            ):  # any growing numbers will do
                return position
            time.sleep(chance.random() / 1000)
            steps.make(rank)
        consensus.leave()
        return None

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(train, range(world)))


@pytest.mark.parametrize("slack", [1, 2, 4, STEPS])
@pytest.mark.parametrize("seed", range(8))
def test_all_stop_after_the_same_step(seed: int, slack: int):
    chance = random.Random(seed)
    heard = [chance.randint(1, 12) for _ in range(chance.randint(2, 5))]
    steps = stops(heard, slack, seed)
    assert len(set(steps)) == 1
    if slack < STEPS:
        assert steps[0] is not None
        assert max(heard) <= steps[0] <= max(heard) + 2 * slack + 2


def test_no_rank_stops_while_another_has_not_been_asked_to():
    assert stops([3, None, 5], 1, 0) == [None, None, None]


def test_none_stops_after_the_end():
    assert stops([3, STEPS - 1], 1, 0) == [None, None]


def test_a_single_rank_stops_at_once():
    assert StopConsensus("x").stops_at(1)
    assert StopConsensus.of_group("x").stops_at(1)
