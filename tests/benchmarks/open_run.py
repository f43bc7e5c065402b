"""Opening a run of a million points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mlnb.api import Run
from mlnb.node.rank import frames
from mlnb.rundir import RunDir

from .timing import Table, times

POINTS = 1_000_000


def measure(folder: Path) -> Table:
    """Seconds from a run directory to a DataFrame, and to what a chart shows."""
    import pandas as pd

    from mlnb.api.read.decimate import decimate

    table = Table("Reading a run of 10⁶ points", "s", "at most 0.5 s", peer="JSONL, pandas.read_json")
    run = RunDir(folder / "20260101-000000-000000")
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    attempt.stdout(0).touch()
    rng = np.random.default_rng(0)
    values, clock = rng.normal(size=POINTS), np.arange(POINTS) * 0.001
    with attempt.metrics(0).open("wb") as file, (folder / "metrics.jsonl").open("w") as lines:
        for start in range(0, POINTS, 200):  # as the flushing thread writes them: a batch five times a second
            part = slice(start, start + 200)
            file.write(frames.encode(["loss"], clock[part], np.arange(start, start + 200), [values[part]]))
            lines.writelines(
                json.dumps({"time": t, "step": s, "loss": v}) + "\n"
                for t, s, v in zip(clock[part].tolist(), range(start, start + 200), values[part].tolist(), strict=True)
            )

    def opened() -> None:
        frame = Run(run).metrics()
        if len(frame) != POINTS:
            raise RuntimeError(f"{len(frame)} points")

    def charted() -> None:
        series = Run(run).series()["loss"]
        decimate(series.step, series.value, 1000)

    table.add("mlnb, run.metrics()", times(opened, 7))
    table.add("mlnb, the decimated curve of the view", times(charted, 7))
    table.add(table.peer, times(lambda: pd.read_json(folder / "metrics.jsonl", lines=True), 3))
    return table
