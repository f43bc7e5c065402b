"""The kernel that submitted a run to SLURM is killed: the run goes on, and any other process follows it to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb.api import runs
from tests.clusters.slurm.conftest import Slurm
from tests.notebook.kernels import kernel
from tests.waiting import until

pytestmark = pytest.mark.cluster

CELL = """%%train --on slurm --cpus 1 --memory 1GB --time 5m --name survivor
import mlnb, time
from pathlib import Path
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in mlnb.epochs(2, net=net, optimizer=optimizer):
    for _ in range(5):
        optimizer.zero_grad()
        loss = (net(torch.ones(4, 2)) - 3).pow(2).mean()
        loss.backward()
        optimizer.step()
    while not Path(GATE).exists():
        time.sleep(0.01)
"""

FOLLOW = """
import json, mlnb
run = mlnb.runs["survivor"]
before = run.state
open(GATE, "w").close()
run.wait(60)
curve = run.metrics().query("name == 'loss'")
net = run.pull()["net"]
weights = [value for parameter in net.parameters() for value in parameter.flatten().tolist()]
print(json.dumps([before, run.state, run.attempts, curve.step.tolist(), curve.value.tolist(), weights]))
"""


def here() -> list[float]:
    """The losses of the same two epochs in this process, and behind them the weights."""
    import torch

    torch.manual_seed(3)
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (net(torch.ones(4, 2)) - 3).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, *(value for parameter in net.parameters() for value in parameter.flatten().tolist())]


def test_another_process_follows_a_run_whose_kernel_was_killed(slurm: Slurm, tmp_path: Path, runs_root: Path):
    gate = f"GATE = {str(tmp_path / 'gate')!r}\n"
    with kernel(tmp_path, runs_root, tmp_path / "ipython") as submitter:
        submitter.ok(f"%load_ext mlnb\nimport torch\ntorch.manual_seed(3)\nnet = torch.nn.Linear(2, 1)\n{gate}")
        submitter.ok(CELL)
        until(lambda: len(runs["survivor"].series().get("loss", ())) == 5)
        submitter.kill()
        done = subprocess.run(
            [sys.executable, "-c", gate + FOLLOW], cwd=tmp_path, capture_output=True, text=True, timeout=90
        )
    assert done.returncode == 0, done.stderr
    before, after, attempts, steps, losses, weights = json.loads(done.stdout)
    assert (before, after, attempts) == ("running", "succeeded", 1)
    assert steps == list(range(1, 11))
    assert [*losses, *weights] == here()
