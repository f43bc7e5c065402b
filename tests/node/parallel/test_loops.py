"""Loops as people write them, on two and three ranks: the weights, and what the loop reads, of one process."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import Start
from tests.node.parallel.loops import ZOO, program

Trained = dict[str, tuple[list[list[float]], list[float]]]


def trained(start: Start, ranks: int) -> Trained:
    """Run all loops with ``ranks`` ranks, in one run; return their weights, and what they have read."""
    run = start(program(ZOO, 12 // ranks), ranks=ranks).wait(250)
    assert run.state == "succeeded", run.reason
    lines = [json.loads(line) for line in run.logs(0, "out").splitlines()]
    return {name: (weights, read) for name, weights, read in lines}


def assert_equal(one: Trained, other: Trained) -> None:
    assert one.keys() == other.keys() == ZOO.keys()
    for name, (weights, read) in one.items():
        theirs, their_read = other[name]
        np.testing.assert_allclose(np.concatenate(theirs), np.concatenate(weights), rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(their_read, read, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_two_ranks_train_and_read_what_one_process_does(start: Start) -> None:
    assert len(ZOO) >= 40
    assert_equal(trained(start, 1), trained(start, 2))


@pytest.mark.slow
@pytest.mark.cluster
def test_three_ranks_train_and_read_what_one_process_does(start: Start) -> None:
    assert_equal(trained(start, 1), trained(start, 3))
