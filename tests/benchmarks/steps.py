"""What watching costs a training step."""

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
    """Median seconds of a step of about a millisecond, bare and watched in turn."""
    table = Table("A training step, watched", "ms", "watched / bare at most 1.01 for a step of 1 ms", peer="bare")
    one = script(384, 128, 300, rounds=3)
    (folder / "bare.py").write_text(one)
    bare: list[float] = []
    watched: list[float] = []
    for _ in range(6):  # in turn, so that a busier minute hits both
        bare += on_its_own(folder / "bare.py")
        watched += with_mlnb(one, 1)
    table.add("mlnb, 1 rank", watched)
    table.add("bare", bare)
    return table


def medians(text: str) -> list[float]:
    """The medians that a script printed."""
    found = [float(line.split()[1]) for line in text.splitlines() if line.startswith("median")]
    if not found:
        raise RuntimeError(text)
    return found


def with_mlnb(source: str, ranks: int) -> list[float]:
    """The medians of a run."""
    place = Local()
    run = Run(submit(Task(script=source, seed=0), {}, place, place.offer(Resources(ranks=ranks)), name="steps", env={}))
    run.wait(300)
    return medians(run.logs(0, "out") or run.reason)


def on_its_own(path: Path) -> list[float]:
    """The medians of a plain process."""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, check=True)
    return medians(done.stdout)
