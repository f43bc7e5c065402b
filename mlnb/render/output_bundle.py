"""Makes the output under a cell: a MIME bundle that shows a run, for mlnb's renderer and for front ends without it.

All of it is read from the run directory, so that every process makes the same output for a run.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
from typing import Any

from mlnb.api import Run
from mlnb.api.read.decimate import decimate
from mlnb.api.read.history import Series
from mlnb.render import ansi
from mlnb.render.summary import status_line, summary, training_curves
from mlnb.rundir import FINAL

MIME = "application/vnd.mlnb.run+json"

_PIXELS = 1000
"""Width in pixels to which saved curves are decimated."""

_COLOURS = {
    "pending": "#8a6d00",
    "starting": "#8a6d00",
    "running": "#1565c0",
    "succeeded": "#2e7d32",
    "failed": "#c62828",
    "cancelled": "#6d6d6d",
    "lost": "#c62828",
}

WARNED = "#b26a00"
"""The colour of a run that succeeded, but has a reason to be looked at."""

_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""Names for numbers that JSON does not have."""


def bundle(run: Run, *, with_curves: bool = True) -> dict[str, Any]:
    """The MIME bundle of a run: JSON for mlnb's renderer, HTML and text for others, and a picture after the end.

    Parameters
    ----------
    run
        the run to show.
    with_curves
        whether it contains the curves; for a run that has ended it always does.
    """
    observed = run.observe()  # before the metrics: so those of an ended run are complete
    final = observed.state in FINAL
    series = run.all_series()
    line = status_line(run, series)
    data = summary(run, series, final=final)
    if with_curves or final:
        data["metrics"] = {name: _points(metric) for name, metric in series.items()}
    blocks = [data["error"], data["output"] if final else ""]
    blocks += [str(display["text/plain"]) for display in data["displays"] if "text/plain" in display]
    said = [f"note: {note}" for note in data["notes"]]
    said += [f"go on from its checkpoint: %%train --resume {data['resume']}"] if data["resume"] else []
    text = "\n".join([line, *(f"  {sentence}" for sentence in said), *(block for block in blocks if block)])
    mime_bundle: dict[str, Any] = {MIME: data, "text/plain": text}
    image = None
    if final:
        with contextlib.suppress(Exception):  # a picture that can't be drawn must not cost the rest of the view
            image = picture(training_curves(series))
    if image is not None:
        mime_bundle["image/png"] = base64.b64encode(image).decode()
    mime_bundle["text/html"] = _html(data, line, said, mime_bundle.get("image/png"))
    return mime_bundle


def picture(curves: dict[str, Series]) -> bytes | None:
    """A plot of the loss (else of the first metric) over steps, as a PNG.

    ``None`` if nothing was logged, or matplotlib (the extra ``mlnb[picture]``) is not installed.
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
    axes.set_xlabel("step")
    axes.set_ylabel(name, parse_math=False)  # a name is no formula, whatever it contains
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def display_html(display: dict[str, Any]) -> str:
    """Something that the run displayed, as HTML."""
    if "text/html" in display:
        return f"<div>{display['text/html']}</div>"
    for mime in ("image/svg+xml", "image/png", "image/jpeg"):
        if mime in display:
            content = display[mime]
            encoded = base64.b64encode(str(content).encode()).decode() if mime == "image/svg+xml" else content
            return f'<img src="data:{mime};base64,{html.escape(str(encoded))}" style="max-width:100%">'
    content = display.get("text/markdown") or display.get("text/latex")
    if content is None and "application/json" in display:
        content = json.dumps(display["application/json"], indent=1)
    text = str(display.get("text/plain", "")) if content is None else str(content)
    return f'<pre style="font-size:12px;white-space:pre-wrap">{ansi.to_html(text)}</pre>'


def _points(series: Series) -> dict[str, Any]:
    """The points of one metric, decimated, as JSON values."""
    steps, values = decimate(series.step, series.value, _PIXELS)
    return {
        "total": len(series),
        "step": [int(step) if step == int(step) else round(float(step), 3) for step in steps],
        "value": [_NON_FINITE.get(str(float(value)), float(value)) for value in values],
    }


def _html(data: dict[str, Any], line: str, said: list[str], image: str | None) -> str:
    """The run as HTML for front ends without mlnb's renderer: ``line``, lines below it, and ``image``, a base64 PNG."""
    name, state = html.escape(data["name"]), data["state"]
    colour = WARNED if state == "succeeded" and data["reason"] else _COLOURS.get(state, _COLOURS["pending"])
    rest = html.escape(line.removeprefix(f"{data['name']}: {state}"))
    parts = [
        f'<div style="font-size:13px;line-height:1.5"><b>{name}</b> '
        f'<span style="color:{colour};font-weight:600">{state}</span>{rest}</div>'
    ]
    parts += [f'<div style="font-size:12px">{html.escape(sentence)}</div>' for sentence in said]
    if data["error"]:
        parts.append(f'<pre style="font-size:12px">{html.escape(data["error"])}</pre>')
    if image:
        parts.append(f'<img alt="{html.escape(line)}" src="data:image/png;base64,{image}" style="max-width:520px">')
    parts += [display_html(display) for display in data["displays"]]
    if data["output"]:
        parts.append(f'<pre style="font-size:12px">{ansi.to_html(data["output"])}</pre>')
    return "\n".join(parts)
