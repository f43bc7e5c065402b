"""The notebook's way: the plan with the submission, the view while it waits and runs, the weights afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.slurm.conftest import Slurm
from tests.notebook.kernels import Kernel, kernel


@pytest.fixture
def notebook(slurm: Slurm, tmp_path: Path, runs_root: Path) -> Iterator[Kernel]:
    """A kernel with mlnb and a small model."""
    with kernel(tmp_path, runs_root, tmp_path / "ipython") as made:
        made.ok("%load_ext mlnb\nimport torch\nmodel = torch.nn.Linear(2, 1)")
        yield made


CELL = """%%train --on slurm --gpus 1 --cpus 1 --memory 1GB --time 5m
import os
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    loss = (model(torch.ones(4, 2)) - 3).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
where = os.environ["SLURM_JOB_ID"], os.environ["CUDA_VISIBLE_DEVICES"]
"""


def test_a_cell_on_slurm(notebook: Kernel, runs_root: Path, slurm: Slurm):
    dry = notebook.ok(CELL.replace("--on", "--dry-run --on", 1)).out
    assert "runs on      slurm: 1 rank × 1 core, 1 GPU" in dry
    assert re.search(r"partition gpu\n\s+3 of its 3 nodes can take it\n", dry)
    directives = [line.removeprefix("#SBATCH ") for line in dry.splitlines() if line.startswith("#SBATCH ")]
    assert {"-p gpu", "--gres=gpu:1", "--cpus-per-task=1", "-t 00:05:00", "--signal=B:USR1@30"} <= set(directives)
    assert not runs_root.exists()  # nothing was written

    notebook.ok("before = model.weight.detach().clone(), id(model)")
    cell = notebook.ok(CELL)
    number, gpus = notebook.ok("print(*where)").out.split()  # it waits for the run
    assert notebook.look("id(model) == before[1] and not torch.equal(model.weight, before[0])") == "True"
    assert gpus == "0"
    assert slurm.show(number)["JobName"].startswith("train-")
    notebook.until(lambda: cell.run["state"] == "succeeded")
