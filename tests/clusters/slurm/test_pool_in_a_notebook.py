"""A pool from a notebook on a real SLURM: cells run on it, and neither hangs on the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import pools, runs
from tests.clusters.slurm.conftest import Slurm
from tests.notebook.kernels import Kernel, kernel
from tests.waiting import until

pytestmark = pytest.mark.cluster

SITE = {"interface": "lo", "poll": "1s", "memory": "1GB", "cpus": 1, "time": "5m", "grace": 5}
START = "%load_ext mlnb\nimport mlnb, os, time, torch\nfrom pathlib import Path"
TRAIN = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    loss = (model(torch.ones(4, 2)) - 3).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    while step == 20 and not Path({gate!r}).exists():
        time.sleep(0.01)
where = os.environ["SLURM_JOB_ID"], os.environ["CUDA_VISIBLE_DEVICES"]
"""


@pytest.fixture
def notebook(slurm: Slurm, tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel with a small model and a pool called ``warm``. The test leaves no pool."""
    (tmp_path / "mlnb.yaml").write_text(json.dumps({"mlnb": {"targets": {"slurm": SITE}}}))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    with kernel(tmp_path, runs_root, tmp_path / "ipython") as made:
        made.ok(START)
        made.ok("model = torch.nn.Linear(2, 1)")
        said = made.ok("%pool start --on slurm --gpus 1 --name warm").out
        slurm.submitted.append(job())
        assert said.startswith(f"pool warm is job {job()} of slurm")
        yield made
    for pool in pools.listed():
        if pool.live:
            pools.stop(pool.name)


def job() -> str:
    """The job of the pool."""
    (pool,) = pools.listed()
    return pool.written.jobs[0]


def stop(notebook: Kernel, slurm: Slurm) -> None:
    """``%pool stop``, after which nothing is left in the queue."""
    number = job()
    assert notebook.ok("%pool stop").out == "pool warm has ended: was stopped\n"
    until(lambda: slurm.squeue(number) is None)
    queue = slurm.command("squeue", "-h", "-a", "-O", "JobID:|,Comment:|").splitlines()
    assert [line for line in queue if any(f"mlnb:{one.id}" in line for one in (*pools.listed(), *runs))] == []
    assert "ended" in notebook.ok("%pool").text


def test_cells_run_on_a_pool_as_anywhere(notebook: Kernel, slurm: Slurm, tmp_path: Path):
    gate = tmp_path / "gate"
    gate.touch()
    for name in ("pool", "pool:warm"):
        notebook.ok("torch.nn.init.zeros_(model.weight)\nbefore = id(model)")
        cell = notebook.ok(f"%%train --on {name}{TRAIN.format(gate=str(gate))}")
        assert notebook.ok("print(*where)").out.split() == [job(), "0"]  # it waits for the run
        assert notebook.look("id(model) == before and bool((model.weight > 0.5).all())") == "True"
        notebook.until(lambda cell=cell: cell.run["state"] == "succeeded")
        assert runs[0].target == name
    stop(notebook, slurm)


def test_pool_and_run_outlive_the_kernel_and_the_next_one_finds_both(
    notebook: Kernel, slurm: Slurm, tmp_path: Path, runs_root: Path
):
    gate = tmp_path / "gate"
    notebook.ok(f"%%train --on pool --name survivor{TRAIN.format(gate=str(gate))}")
    run = runs["survivor"]
    until(lambda: len(run.series().get("loss", ())) == 21)
    notebook.kill()
    until(lambda: notebook.manager.provisioner.process.poll() is not None)  # type: ignore[union-attr]
    with kernel(tmp_path, runs_root, tmp_path / "ipython") as second:
        second.ok(START)
        row = next(line.split() for line in second.ok("%pool").text.splitlines() if line.startswith("warm"))
        assert row[1] == "running"
        assert slurm.state(job()) == "RUNNING"
        view = second.ok("%runs survivor")
        assert view.run["state"] == "running"
        gate.touch()
        second.ok("run = mlnb.runs['survivor'].wait(60)")
        second.until(lambda: view.run["state"] == "succeeded")
        second.ok("loss = run.metrics().query('name == \"loss\"')")
        assert second.look("loss.step.tolist() == list(range(1, 41)), set(loss.attempt)") == "(True, {1})"
        second.ok("run.pull()")
        assert second.ok("print(*where, round(model(torch.ones(1, 2)).item(), 2))").out.split() == [job(), "0", "3.0"]
        assert second.ok("%%train --on pool\nanswer = 42").status == "ok"
        assert second.ok("print(answer)").out == "42\n"
        stop(second, slurm)
