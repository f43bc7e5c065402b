"""What mlnb's hooks cost a training step: in one rank of a real run, alternately with and without them."""

from __future__ import annotations

import json
from pathlib import Path

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.targets.local import Local
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace

from .timing import Table

STEPS, PAIRS = 25, 400
WATCHED = """\
import gc, json, random, time
import torch
from mlnb.node.rank import log
from mlnb.node.rank.training_hooks import TrainingHooks
STEPS, FIRST, PAIRS = {steps}, 5, {pairs}
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(384, 384), torch.nn.ReLU(), torch.nn.Linear(384, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
count = (FIRST + STEPS) * 64
data = torch.utils.data.TensorDataset(torch.randn(count, 384), torch.randn(count, 1))
loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
hooks = next(one for one in gc.get_objects() if type(one) is TrainingHooks)
metrics, flush = log.current, log.current.flush
def block():
    for turn, (x, y) in enumerate(loader):
        if turn == FIRST:  # what was switched has settled
            began = time.perf_counter(), time.process_time()
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - began[0]) / STEPS, (time.process_time() - began[1]) / STEPS
def bare():
    hooks.uninstall()
    metrics.flush = lambda: None  # the thread wakes and finds nothing to do
    try:
        return block()
    finally:
        metrics.flush = flush
        hooks.install()
def in_turn(one, other):
    turns = [(0, one), (1, other)]
    random.shuffle(turns)
    found = {{key: call() for key, call in turns}}
    return found[0], found[1]
for _ in range(10):
    block(), bare()
control, watched = [], []
for _ in range(PAIRS):
    control.append(in_turn(bare, bare))
    watched.append(in_turn(block, bare))
print(json.dumps([watched, control]))
"""


def measure(_: Path) -> Table:
    """Seconds of a step of about a millisecond, loader and metrics' thread included."""
    goal = "ratio with / without at most 1.01 for a step of 1 ms"
    table = Table("A training step, with and without mlnb's hooks", "ms", goal, peer="without hooks")
    watched, control = json.loads(with_mlnb(WATCHED.format(steps=STEPS, pairs=PAIRS), 1).splitlines()[-1])
    ours, bare = split(watched, 0)
    table.add("with hooks", ours, f"blocks of {STEPS} steps, with and without, in one process, in random order")
    table.add("without hooks", bare)
    table.pair("with / without", ours, bare)
    table.pair("without / without, for comparison", *split(control, 0))
    table.pair("with / without, CPU seconds of all threads", *split(watched, 1))
    table.pair("without / without, CPU seconds", *split(control, 1))
    return table


def split(pairs: list[list[list[float]]], which: int) -> tuple[list[float], list[float]]:
    """What was measured in pairs of blocks, as two lists."""
    return [one[which] for one, _ in pairs], [other[which] for _, other in pairs]


def with_mlnb(source: str, ranks: int) -> str:
    """What rank 0 of a run printed."""
    place = Local("local", {}, Workspace.of_process())
    run = Run(submit(Task(script=source, seed=0), {}, place, place.offer(Resources(ranks=ranks)), name="steps", env={}))
    run.wait(600)
    if run.state != "succeeded":
        raise RuntimeError(f"{run.reason}\n{run.logs(0, 'err')}")
    return run.logs(0, "out")
