"""The output under a cell: a MIME bundle that shows a run, for our renderer and for front ends without it.

All of it is read from the run directory by the run's id: another process shows the same.
"""

from __future__ import annotations

import base64
import html
import io
from typing import Any

from mlnb.api import Run
from mlnb.api.read.decimate import decimate
from mlnb.api.read.history import Series
from mlnb.render.summary import status_line, summary, training_curves
from mlnb.rundir import FINAL

MIME = "application/vnd.mlnb.run+json"

_PIXELS = 1000
"""How wide the saved curves are, decimated."""

_COLOURS = {
    "pending": "#8a6d00",
    "starting": "#8a6d00",
    "running": "#1565c0",
    "succeeded": "#2e7d32",
    "failed": "#c62828",
    "cancelled": "#6d6d6d",
    "lost": "#c62828",
}

_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""JSON has no such numbers: they are saved by name."""


def bundle(run: Run, *, with_curves: bool = True) -> dict[str, Any]:
    """The output's MIME bundle: JSON for our renderer, HTML and text for the others, a picture at the end.

    Parameters
    ----------
    run
        the run to show.
    with_curves
        whether the curves are in it; those of a run that has ended always are.
    """
    observed = run.observe()  # before the metrics: those of a run that has ended are complete
    final = observed.state in FINAL
    series = run.all_series()
    line = status_line(run, series)
    data = summary(run, series, final=final)
    if with_curves or final:
        data["metrics"] = {name: _points(one) for name, one in series.items()}
    blocks = [data["error"], data["output"] if final else ""]
    text = "\n".join([line, *(f"  note: {note}" for note in data["notes"]), *(block for block in blocks if block)])
    shown: dict[str, Any] = {MIME: data, "text/plain": text}
    image = picture(training_curves(series)) if final else None
    if image is not None:
        shown["image/png"] = base64.b64encode(image).decode()
    shown["text/html"] = _html(data, line, shown.get("image/png"))
    return shown


def picture(curves: dict[str, Series]) -> bytes | None:
    """The loss (else the first metric) over steps as a PNG.

    ``None`` where nothing was logged, and without matplotlib (the extra ``mlnb[picture]``).
    """
    name = "loss" if "loss" in curves else next(iter(curves), None)
    if name is None:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None

    steps, values = decimate(curves[name].step, curves[name].value, _PIXELS)
    figure = Figure(figsize=(5.2, 2.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, linewidth=1.2, marker="o" if len(steps) < 3 else "")
    axes.set(xlabel="step", ylabel=name)
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _points(series: Series) -> dict[str, Any]:
    """One metric as JSON, decimated."""
    steps, values = decimate(series.step, series.value, _PIXELS)
    return {
        "total": len(series),
        "step": [int(step) if step == int(step) else round(float(step), 3) for step in steps],
        "value": [_NON_FINITE.get(str(float(value)), float(value)) for value in values],
    }


def _html(data: dict[str, Any], line: str, image: str | None) -> str:
    name, state = html.escape(data["name"]), data["state"]
    rest = html.escape(line.removeprefix(f"{data['name']}: {state}"))
    parts = [
        f'<div style="font-size:13px;line-height:1.5"><b>{name}</b> '
        f'<span style="color:{_COLOURS[state]};font-weight:600">{state}</span>{rest}</div>'
    ]
    parts += [f'<div style="font-size:12px">note: {html.escape(note)}</div>' for note in data["notes"]]
    if data["error"]:
        parts.append(f'<pre style="font-size:12px">{html.escape(data["error"])}</pre>')
    if image:
        parts.append(f'<img alt="{html.escape(line)}" src="data:image/png;base64,{image}" style="max-width:520px">')
    parts += [f'<img src="data:image/png;base64,{png}" style="max-width:100%">' for png in data["figures"]]
    if data["output"]:
        parts.append(f'<pre style="font-size:12px">{html.escape(data["output"])}</pre>')
    return "\n".join(parts)
