"""From submitting to the first metric in the reader's hands, on a warm pool of a real SLURM; and a job beside it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import dask

from mlnb.api import pools
from mlnb.targets.pool.folder import PoolInfo
from mlnb.task import Resources

from .firsts import first_metric
from .timing import Table

_SITE = {"interface": "lo", "poll": "1s", "memory": "1GB", "cpus": 1, "time": "10m"}


def measure(folder: Path) -> Table:
    """Seconds from submit to the first loss. ``SLURM_CONF`` says which SLURM (``make slurm`` starts one)."""
    os.environ.setdefault("SLURM_CONF", str(Path(os.environ.get("MLNB_SLURM", "/var/tmp/mlnb-slurm")) / "slurm.conf"))
    site = folder / "site"
    site.mkdir()
    (site / "mlnb.yaml").write_text(json.dumps({"mlnb": {"targets": {"slurm": _SITE}}}))
    os.environ["DASK_CONFIG"] = str(site)
    table = Table("Submit to first metric, pool on SLURM", "s", "at most 0.5 s")
    with dask.config.set({"mlnb.targets": {"slurm": _SITE}}):
        began = time.perf_counter()
        pool, _ = pools.start(["--on", "slurm", "--gpus", "1", "--name", "bench"])
        try:
            while PoolInfo(pool.folder).state != "running":
                time.sleep(0.02)
            warm = time.perf_counter() - began
            first_metric("pool:bench", Resources(gpus=1))
            table.add("run on a pool", [first_metric("pool:bench", Resources(gpus=1)) for _ in range(10)])
            table.add("start of the pool", [warm])
        finally:
            pools.stop("bench")
        table.add("the same run as a job of its own", [first_metric("slurm", Resources(gpus=1)) for _ in range(3)])
    return table
