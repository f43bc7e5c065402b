"""Two ranks of an ordinary loop, alternately with torch's DDP written by hand, in the same processes."""

from __future__ import annotations

import json
from pathlib import Path

from .steps import split, with_mlnb
from .timing import Table

# Both train in one process. DDP needs a default process group, which an ordinary loop must not see.
BOTH = """\
import gc, json, os, random, time
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from mlnb.node.rank import log
from mlnb.node.parallel.data_parallel import DataParallel
from mlnb.node.rank.training_hooks import TrainingHooks
from mlnb.node.torch_private import set_default_group
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler
rank = int(os.environ.get("RANK", "0"))
turns = random.Random(0)  # the same on both ranks
def found(kind):
    return next(one for one in gc.get_objects() if type(one) is kind)
parallel, hooks, metrics, flush = found(DataParallel), found(TrainingHooks), log.current, log.current.flush
dist.init_process_group("gloo")
group = dist.group.WORLD
set_default_group(None)
def off():
    parallel.uninstall(), hooks.uninstall()
    set_default_group(group)
    metrics.flush = lambda: None
def on():
    set_default_group(None)
    hooks.install(), parallel.install()
    metrics.flush = flush
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
        )
    def forward(self, x):
        return x + self.inner(x)
def mlp(width, layers):
    inner = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*inner, nn.Linear(width, 1))
def resnet(width, blocks):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), *[Block(width) for _ in range(blocks)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1),
    )
def loop(model, optimizer, loader, first):
    for turn, (x, y) in enumerate(loader):
        if turn == first:
            began = time.perf_counter()
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [(time.perf_counter() - began) / (turn + 1 - first)]
def measure(make, shape, batch, steps, pairs, first=3):
    count = 2 * batch * (first + steps)
    data = TensorDataset(torch.randn(count, *shape), torch.randn(count, 1))
    torch.manual_seed(0)
    model = make()
    ours = model, torch.optim.SGD(model.parameters(), lr=1e-4), DataLoader(data, batch_size=batch, shuffle=True)
    loop(*ours, first)
    off()
    torch.manual_seed(0)
    theirs = []
    for _ in range(2):
        model = DistributedDataParallel(make())
        sampler = DistributedSampler(data)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        theirs.append((model, optimizer, DataLoader(data, batch_size=batch, sampler=sampler)))
    on()
    def plain():
        dist.barrier(group)
        return loop(*ours, first)
    def wrapped(which=0):
        off()
        dist.barrier()
        took = loop(*theirs[which], first)
        on()
        return took
    def in_turn(one, other):
        calls = [(0, one), (1, other)]
        turns.shuffle(calls)
        took = {{key: call() for key, call in calls}}
        return took[0], took[1]
    for _ in range(3):
        plain(), wrapped(), wrapped(1)
    pairs = [(in_turn(plain, wrapped), in_turn(lambda: wrapped(1), wrapped)) for _ in range(pairs)]
    size = sum(one.nbytes for one in ours[0].parameters()) / 1e6
    return [size, len(list(ours[0].parameters())), [one for one, _ in pairs], [one for _, one in pairs]]
print(json.dumps(measure({make}, {shape}, {batch}, {steps}, {pairs})))
"""
CASES = {
    "tiny MLP": {"make": "lambda: mlp(192, 1)", "shape": "(192,)", "batch": 16, "steps": 40, "pairs": 100},
    "small MLP": {"make": "lambda: mlp(384, 2)", "shape": "(384,)", "batch": 64, "steps": 20, "pairs": 100},
    "MLP": {"make": "lambda: mlp(1024, 3)", "shape": "(1024,)", "batch": 128, "steps": 8, "pairs": 40},
    "ResNet": {"make": "lambda: resnet(96, 4)", "shape": "(3, 8, 8)", "batch": 16, "steps": 8, "pairs": 40},
}


def measure(_: Path) -> Table:
    """Seconds of a step of rank 0, loaders included."""
    goal = "in the median of the pairs at most 1.1 × DDP written by hand"
    table = Table("A training step on two ranks", "ms", goal)
    for name, case in CASES.items():
        printed = with_mlnb(BOTH.format(**case), 2)
        size, parameters, pairs, control = json.loads(printed.splitlines()[-1])
        ours, theirs = split(pairs, 0)
        table.add(f"{name}, ordinary loop", ours, f"{size:.1f} MB in {parameters} parameters")
        table.add(f"{name}, DDP written by hand", theirs)
        table.pair(f"{name}, ordinary loop / DDP", ours, theirs)
        table.pair(f"{name}, DDP / DDP, for comparison", *split(control, 0))
    return table
