"""A training that can be interrupted: slow until it is told to hurry, so that what interrupts it finds it under way."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlnb.api import Run
from mlnb.api.read.state import Observation
from mlnb.rundir import FINAL
from tests.clusters.slurm.conftest import Slurm, Start, job
from tests.waiting import until

STEPS = 320

SCRIPT = """
import os, time, mlnb, torch
from pathlib import Path
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
X = torch.randn(64, 4, generator=torch.Generator().manual_seed(5))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for epoch in mlnb.epochs(40, model=model, optimizer=optimizer):
    for (a,) in DataLoader(TensorDataset(X), batch_size=int(os.environ["BATCH"]), shuffle=True):
        time.sleep(0 if Path(os.environ["HURRY"]).exists() else 0.1)
        optimizer.zero_grad()
        loss = (model(a) - a.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
print(*(value.hex() for p in model.parameters() for value in p.flatten().tolist()))
"""


@dataclass
class Training:
    """A run of :data:`SCRIPT` on SLURM."""

    run: Run
    hurried: Path

    @property
    def job(self) -> str:
        return job(self.run)

    def under_way(self, steps: int = 20) -> Training:
        """Wait until it has taken so many steps."""
        until(lambda: len(self.run.series().get("loss", ())) >= steps)
        return self

    def hurry(self) -> None:
        """Let it take its steps without a pause."""
        self.hurried.touch()

    def told(self, state: str, *words: str) -> str:
        """Wait until the run is in this state with these words in its reason; the reason."""

        def found() -> Observation | None:
            seen = self.run.observe()
            assert seen.state == state or seen.state not in FINAL, seen
            return seen if seen.state == state and all(word in seen.reason for word in words) else None

        return until(found).reason  # type: ignore[union-attr]

    def start_again(self, slurm: Slurm, *, hurry: bool = False) -> None:
        """Let a job that was queued again start now."""
        until(lambda: int(slurm.show(self.job)["Restarts"]))  # its state may have passed
        if hurry:
            self.hurry()
        slurm.start_now(self.job)

    def go_on(self, slurm: Slurm) -> None:
        """Let a job that was queued again start now, and come to its end."""
        self.start_again(slurm, hurry=True)

    def has_gone_on(self, attempts: int = 2) -> str:
        """Wait for its end; nothing of its curve is missing or doubled. The weights, exactly."""
        assert self.run.wait(90).state == "succeeded", self.run.reason
        assert self.run.attempts == attempts
        curve = self.run.metrics().query("name == 'loss'")
        assert curve.step.tolist() == list(range(1, STEPS + 1))
        assert np.all(np.diff(curve.attempt) >= 0)
        assert sorted(set(curve.attempt)) == list(range(1, attempts + 1))
        return weights(self.run)


def weights(run: Run) -> str:
    """What :data:`SCRIPT` has printed at its end."""
    return run.logs(0, "out").splitlines()[-1]


def begin(start: Start, folder: Path, batch: int = 8, name: str = "training", **asked: object) -> Training:
    """Submit it."""
    hurried = folder / f"{name}.hurry"
    return Training(start(SCRIPT, name=name, env={"HURRY": str(hurried), "BATCH": str(batch)}, **asked), hurried)


@functools.cache
def plain() -> str:
    """The weights that the script comes to in plain Python, without mlnb doing anything."""
    environment = {**os.environ, "HURRY": "/", "BATCH": "8", "OMP_NUM_THREADS": "1"}
    script = f"import torch\ntorch.manual_seed(0)\n{SCRIPT}"
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def numbers(weights: str) -> list[float]:
    """Weights that are to be compared not quite exactly."""
    return [float.fromhex(word) for word in weights.split()]
