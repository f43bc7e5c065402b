"""``mlnb.log`` on the training thread, beside other ways to log a value."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from mlnb.api.read.tailing import MetricsTail
from mlnb.node.rank import log

from .timing import Table

ROUNDS = 7


def measure(folder: Path) -> Table:
    """A value and a step a call, in a tight loop; seconds a call."""
    table = Table("A call of mlnb.log, on the training thread", "µs", "at most 1 µs, nothing lost", peer="JSONL append")
    path = folder / "rank-0.metrics"
    metrics = log.begin(path)
    count = 200_000
    table.add("mlnb.log(loss=x)", [_mlnb(metrics.log, count) for _ in range(ROUNDS)])
    metrics.flush()
    kept = len(MetricsTail(path).new()["loss"][2])
    table.rows[-1].note = f"{kept:,} of {ROUNDS * count:,} values read back"
    metrics.path = None
    with (folder / "metrics.jsonl").open("a", buffering=1) as file:
        table.add(
            "JSONL append",
            [
                _each(lambda i: file.write(json.dumps({"t": time.time(), "step": i, "loss": 0.5}) + "\n"), 20_000)
                for _ in range(ROUNDS)
            ],
        )
    if importlib.util.find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(folder / "tb"))
        table.add("TensorBoard", [_each(lambda i: writer.add_scalar("loss", 0.5, i), 5_000) for _ in range(ROUNDS)])
        writer.close()
    if importlib.util.find_spec("mlflow"):
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        with mlflow.start_run():
            table.add("MLflow, sqlite", [_each(lambda i: mlflow.log_metric("loss", 0.5, i), 50) for _ in range(3)])
    return table


def _mlnb(call: Callable[..., None], count: int) -> float:
    value = 0.5
    began = time.perf_counter()
    for _ in range(count):
        call(loss=value)
    return (time.perf_counter() - began) / count


def _each(call: Callable[[int], object], count: int) -> float:
    began = time.perf_counter()
    for index in range(count):
        call(index)
    return (time.perf_counter() - began) / count
