"""What several benchmarks measure: from submitting a run to its first metric in the reader's hands."""

from __future__ import annotations

import time

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.targets.base import Placement, Target
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

TRAIN = """\
import os
import torch
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    torch.distributed.init_process_group("gloo")
model = torch.nn.Linear(8, 1)
x = torch.randn(16, 8)
for step in range(5):
    loss = model(x).square().mean()
    loss.backward()
"""
"""No optimizer: the first one in a process imports torch._dynamo, a second that is torch's and no launcher's."""

PRINTS = TRAIN + "    print('loss', loss.item(), flush=True)\n"
"""The same for those who have no curve."""


def start(place: Target | str, script: str, asked: Resources, partition: str | None = None) -> Run:
    """Submit ``script``."""
    where = target(place) if isinstance(place, str) else place
    offer = where.offer(asked, Placement("bench", {"partition": partition}))
    return Run(submit(Task(script=script, seed=0), {}, where, offer, name="bench", env={}))


def first_metric(place: Target | str, asked: Resources) -> float:
    """Seconds to the first loss of ``TRAIN``, the plan included; the run has ended when this returns.

    Raises
    ------
    RuntimeError
        if it did not succeed.
    """
    began = time.perf_counter()
    run = start(place, TRAIN, asked)
    while "loss" not in run.series() and not run.done:
        time.sleep(0.002)
    took = time.perf_counter() - began
    run.wait(60)
    if run.state != "succeeded":
        raise RuntimeError(run.reason)
    return took
