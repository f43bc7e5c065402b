"""Ranks of one training draw the same numbers, seeded or not."""

from __future__ import annotations

from tests.conftest import Start

UNSEEDED = """
import random, numpy as np, torch
from torch.utils.data import random_split
order = list(range(50)); random.shuffle(order)
print(order, random.Random().random())
print(np.random.permutation(50).tolist(), np.random.default_rng().permutation(50).tolist())
print(np.random.RandomState().rand(), np.random.Generator(np.random.PCG64()).random())
print(torch.randperm(50).tolist(), random_split(range(50), [40, 10])[1].indices)
print(torch.nn.Linear(3, 2).weight.tolist(), torch.rand(2, generator=torch.Generator()).tolist())
random.seed(); np.random.seed(); torch.seed()
print(random.random(), np.random.rand(), torch.rand(1).item())
print(list(set("some words that have an order of their own in each process".split())))
"""


def test_all_ranks_of_an_unseeded_run_draw_the_same_and_each_run_others(start: Start):
    first, second = (start(UNSEEDED, ranks=2, seed=None).wait(60) for _ in range(2))
    texts = [run.logs(rank, "out").splitlines() for run in (first, second) for rank in (0, 1)]
    assert len(texts[0]) == 7, first.result
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert all(a != b for a, b in zip(texts[0][:6], texts[2][:6], strict=True))
    assert texts[0][6] == texts[2][6]  # the order of a set is one for all runs


def test_ranks_that_train_alone_draw_other_numbers(start: Start):
    run = start("import torch; print(torch.rand(1).item())", ranks=2, seed=None, parallel="none").wait(60)
    assert run.logs(0, "out") != run.logs(1, "out")
