"""Two ranks of an unmodified loop, beside the same loop with torch's DDP written by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .steps import medians, script, with_mlnb
from .timing import Table

ROUNDS = 6


def measure(folder: Path) -> Table:
    """Median seconds of a step on two ranks, in turn."""
    table = Table("A training step on two ranks", "ms", "at most 1.1 × DDP by hand", peer="DDP by hand, mlnb")
    plain, by_hand = script(512, 64, 200, rounds=3), script(512, 64, 200, rounds=3, ddp=True)
    (folder / "ddp.py").write_text(by_hand)
    found: dict[str, list[float]] = {
        "mlnb, the loop unmodified": [],
        "DDP by hand, mlnb": [],
        "DDP by hand, torchrun": [],
    }
    for _ in range(ROUNDS):
        found["mlnb, the loop unmodified"] += with_mlnb(plain, 2)
        found["DDP by hand, mlnb"] += with_mlnb(by_hand, 2)
        found["DDP by hand, torchrun"] += _torchrun(folder / "ddp.py")
    for name, seconds in found.items():
        table.add(name, seconds)
    return table


def _torchrun(path: Path) -> list[float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return medians(done.stdout)
