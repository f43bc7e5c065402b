"""One more look at a run of a million points: what it costs the kernel, and what it sends."""

from __future__ import annotations

import importlib.util
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mlnb.api import Run
from mlnb.api.read.cursor import SeriesCursor
from mlnb.api.read.wire import PIXELS, message
from mlnb.node.rank import frames
from mlnb.render.summary import summary
from mlnb.rundir import RunDir, write_json

from .timing import Table

COUNT = 1_000_000
NEW = 10
ROUNDS = 60


def measure(folder: Path) -> Table:
    """CPU seconds of the process for one update with ten new points."""
    table = Table("Chart refresh in the kernel at 10⁶ points", "ms", "at most 0.5 ms of CPU and 5 kB an update")
    run = _run(folder / "20260101-bench")
    metrics = run.directory.attempt(1).metrics(0)
    step = COUNT

    def logged() -> None:
        nonlocal step
        new = list(range(step, step + NEW))
        with metrics.open("ab") as file:
            file.write(frames.encode(["loss"], [float(one) for one in new], new, [[0.5] * NEW]))
        step += NEW

    cursor, sizes = SeriesCursor(PIXELS), []
    cursor.new(run.all_series())

    def ours() -> None:
        sizes.append(len(message(cursor.new(run.all_series()))))

    table.add("mlnb: read new points, make a frame", _cpu(ours, logged))
    table.rows[-1].note = f"{max(sizes):,} bytes an update; {NEW} new points each, as all rows"

    from mlnb.notebook.view import live_outputs
    from mlnb.notebook.view.widget import RunWidget

    widget = RunWidget({})
    bytes_sent: list[int] = []
    widget.send = lambda content, buffers: bytes_sent.append(len(json.dumps(content)) + len(buffers[0]))
    widget._handle_custom_msg({"type": "hello"}, [])
    view = live_outputs._LiveOutput(run, SimpleNamespace(update=lambda *_, **__: None), widget)
    live_outputs._feed(view, time.monotonic())
    bytes_sent.clear()
    table.add("mlnb: send the frame to the widget", _cpu(lambda: live_outputs._feed(view, time.monotonic()), logged))
    table.rows[-1].note = f"{max(bytes_sent):,} bytes of points an update"
    widget.close()

    def words() -> None:
        sizes.append(len(json.dumps(summary(run, run.all_series(), final=False))))

    sizes.clear()
    table.add("mlnb: update the text, twice a second", _cpu(words, logged))
    table.rows[-1].note = f"{max(sizes):,} bytes; with state, usage and the end of the output"
    _others(table)
    return table


def _run(path: Path) -> Run:
    """A run that seems to be running here, with a million points."""
    run = RunDir(path)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    write_json(run.run, {"id": path.name, "name": "bench", "target": "local", "submitted": time.time()})
    write_json(run.task, {"script": ""})
    attempt.stdout(0).write_text("a line\n" * 20)
    steps = np.arange(COUNT, dtype=float)
    values = np.exp(-steps / COUNT) + np.random.default_rng(0).normal(0, 0.02, COUNT)
    attempt.metrics(0).write_bytes(frames.encode(["loss"], steps.tolist(), steps.tolist(), [values.tolist()]))
    made = Run(run)
    made.all_series()
    return made


def _others(table: Table) -> None:
    steps, values = np.arange(COUNT), np.random.default_rng(0).normal(size=COUNT)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.4), dpi=100)
    axes = figure.subplots()
    sizes = []

    def matplotlib() -> None:
        axes.clear()
        axes.plot(steps, values)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        sizes.append(len(file.getvalue()))

    table.add("matplotlib: redraw", _cpu(matplotlib, rounds=4))
    table.rows[-1].note = f"{max(sizes):,} bytes an update"
    if importlib.util.find_spec("plotly"):
        import plotly.graph_objects as go

        chart = go.FigureWidget(go.Scattergl(x=steps[:100_000], y=values[:100_000]))

        def plotly() -> None:
            chart.data[0].y = values[:100_000]

        table.add("plotly FigureWidget, 10⁵ points", _cpu(plotly, rounds=10))


def _cpu(call: Callable[[], object], before: Callable[[], object] = lambda: None, rounds: int = ROUNDS) -> list[float]:
    found = []
    for _ in range(rounds):
        before()
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return found
