"""What watching costs a training step, and what averaging does beside torch's own DDP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mlnb.api import Run
from mlnb.api.submit import submit
from mlnb.targets.local import Local
from mlnb.task import Resources, Task

from .timing import Table

STEP = """\
import os, sys, time
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear({width}, {width}), torch.nn.ReLU(), torch.nn.Linear({width}, 1))
{wrap}
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
data = torch.utils.data.TensorDataset(torch.randn({steps} * {batch}, {width}), torch.randn({steps} * {batch}, 1))
{sampler}
def run():
    took = []
    for x, y in loader:
        began = time.perf_counter()
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        took.append(time.perf_counter() - began)
    took.sort()
    return took[len(took) // 2]
run()
for _ in range({rounds}):
    median = run()
    if os.environ.get("RANK", "0") == "0":
        print("median", median, flush=True)
"""

PLAIN = "loader = torch.utils.data.DataLoader(data, batch_size={batch}, shuffle=True)"
DDP = """\
import torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(model)"""
DDP_LOADER = """\
sampler = torch.utils.data.DistributedSampler(data)
loader = torch.utils.data.DataLoader(data, batch_size={batch}, sampler=sampler)"""


def script(width: int, batch: int, steps: int, *, rounds: int = 5, ddp: bool = False) -> str:
    """A loop that prints the median seconds of a step, ``rounds`` times."""
    sizes = {"width": width, "batch": batch, "steps": steps}
    loader = (DDP_LOADER if ddp else PLAIN).format(batch=batch)
    return STEP.format(**sizes, rounds=rounds, wrap=DDP if ddp else "", sampler=loader)


def measure(folder: Path) -> Table:
    """Median seconds of a step: bare and watched in turn, then two ranks beside DDP."""
    table = Table(
        "A training step", "ms", "watched / bare at most 1.01, two ranks / DDP by hand at most 1.1", peer="bare"
    )
    one = script(256, 64, 400, rounds=3)
    (folder / "bare.py").write_text(one)
    bare: list[float] = []
    watched: list[float] = []
    for _ in range(5):  # in turn, so that a busier minute hits both
        bare += _bare(folder / "bare.py")
        watched += _mlnb(one, 1)
    table.add("bare", bare)
    table.add("mlnb, 1 rank", watched)
    plain, by_hand = script(512, 64, 200, rounds=3), script(512, 64, 200, rounds=3, ddp=True)
    (folder / "ddp.py").write_text(by_hand)
    ours: list[float] = []
    theirs: list[float] = []
    torchrun: list[float] = []
    for _ in range(3):
        ours += _mlnb(plain, 2)
        theirs += _mlnb(by_hand, 2)
        torchrun += _torchrun(folder / "ddp.py")
    table.add("mlnb, 2 ranks, the loop unmodified", ours)
    table.add("mlnb, 2 ranks, DDP by hand", theirs)
    table.add("torchrun, 2 ranks, DDP by hand", torchrun)
    return table


def _medians(text: str) -> list[float]:
    found = [float(line.split()[1]) for line in text.splitlines() if line.startswith("median")]
    if not found:
        raise RuntimeError(text)
    return found


def _mlnb(source: str, ranks: int) -> list[float]:
    place = Local()
    run = Run(submit(Task(script=source, seed=0), {}, place, place.offer(Resources(ranks=ranks)), name="steps", env={}))
    run.wait(300)
    return _medians(run.logs(0, "out") or run.reason)


def _bare(path: Path) -> list[float]:
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, check=True)
    return _medians(done.stdout)


def _torchrun(path: Path) -> list[float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return _medians(done.stdout)
