"""From submitting to the first metric in the reader's hands, on a warm pool of a real SLURM; and a job beside it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import dask

from mlnb.api import Run, pools
from mlnb.api.submit import submit
from mlnb.targets import target
from mlnb.targets.pool.folder import Known
from mlnb.task import Resources, Task

from .first_metric import TRAIN
from .timing import Table

_SITE = {"interface": "lo", "poll": "1s", "memory": "1GB", "cpus": 1, "time": "10m"}


def measure(folder: Path) -> Table:
    """Seconds from submit to the first loss. ``SLURM_CONF`` says which SLURM (``make slurm`` starts one)."""
    os.environ.setdefault("SLURM_CONF", str(Path(os.environ.get("MLNB_SLURM", "/var/tmp/mlnb-slurm")) / "slurm.conf"))
    site = folder / "site"
    site.mkdir()
    (site / "mlnb.yaml").write_text(json.dumps({"mlnb": {"targets": {"slurm": _SITE}}}))
    os.environ["DASK_CONFIG"] = str(site)
    table = Table("Submit to first metric, warm pool on SLURM", "s", "at most 0.5 s")
    with dask.config.set({"mlnb.targets": {"slurm": _SITE}}):
        began = time.perf_counter()
        pool, _ = pools.start(["--on", "slurm", "--gpus", "1", "--name", "bench"])
        try:
            while Known(pool.folder).state != "running":
                time.sleep(0.02)
            warm = time.perf_counter() - began
            _first("pool:bench")
            table.add("run on a warm pool", [_first("pool:bench") for _ in range(10)])
            table.add("pool, start to running", [warm])
        finally:
            pools.stop("bench")
        table.add("the same run as a job of its own", [_first("slurm") for _ in range(3)])
    return table


def _first(name: str) -> float:
    place = target(name)
    offer = place.offer(Resources(gpus=1))
    task = Task(script=TRAIN, seed=0)
    began = time.perf_counter()
    run = Run(submit(task, {}, place, offer, name="bench", env={}))
    while "loss" not in run.series():
        time.sleep(0.001)
    took = time.perf_counter() - began
    run.wait(60)
    if run.state != "succeeded":
        raise RuntimeError(run.reason)
    return took
