"""What stands under the cell: one line that follows the run, and at its end the curve as a picture.

It is a view of a run id: everything in it is read from the run directory, and another process shows the same.
"""

from __future__ import annotations

import base64
import html
from typing import Any

from mlnb.api import Run
from mlnb.api.read.decimate import decimate
from mlnb.api.read.history import Series
from mlnb.render.summary import curves, head, line
from mlnb.rundir import FINAL

MIME = "application/vnd.mlnb.run+json"

_COLOURS = {
    "pending": "#8a6d00",
    "starting": "#8a6d00",
    "running": "#1565c0",
    "succeeded": "#2e7d32",
    "failed": "#c62828",
    "cancelled": "#6d6d6d",
    "lost": "#c62828",
}


def bundle(run: Run, *, whole: bool = True) -> dict[str, Any]:
    """The output's MIME bundle: data for our renderer, HTML and text for the others, a picture at the end.

    Parameters
    ----------
    run
        of which.
    whole
        with the curves; a run that has ended is shown whole in any case.
    """
    seen = run.observe()  # before its metrics: once it has ended, they are whole
    final = seen.state in FINAL
    told = run.all_series()
    text = line(run, told)
    data = head(run, told, final=final)
    if whole or final:
        data["metrics"] = {name: _points(one) for name, one in told.items()}
    notes = data["notes"]
    said = [data["error"], data["output"] if final else ""]
    full = "\n".join([text, *(f"  note: {note}" for note in notes), *(part for part in said if part)])
    shown: dict[str, Any] = {MIME: data, "text/plain": full}
    image = picture(curves(told)) if final else None
    if image is not None:
        shown["image/png"] = base64.b64encode(image).decode()
    shown["text/html"] = _html(data, text, shown.get("image/png"))
    return shown


def _points(series: Series) -> dict[str, Any]:
    steps, values = decimate(series.step, series.value, 1000)
    return {
        "total": len(series),
        "step": [int(step) if step == int(step) else round(float(step), 3) for step in steps],
        "value": [float(v) if v == v and abs(v) != float("inf") else _WORDS[str(float(v))] for v in values],
    }


_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _html(data: dict[str, Any], text: str, image: str | None) -> str:
    name, state = html.escape(data["name"]), data["state"]
    rest = html.escape(text.removeprefix(f"{data['name']}: {state}"))
    parts = [
        f'<div style="font-size:13px;line-height:1.5"><b>{name}</b> '
        f'<span style="color:{_COLOURS[state]};font-weight:600">{state}</span>{rest}</div>'
    ]
    parts += [f'<div style="font-size:12px">note: {html.escape(note)}</div>' for note in data["notes"]]
    if data["error"]:
        parts.append(f'<pre style="font-size:12px">{html.escape(data["error"])}</pre>')
    if image:
        parts.append(f'<img alt="{html.escape(text)}" src="data:image/png;base64,{image}" style="max-width:520px">')
    parts += [f'<img src="data:image/png;base64,{png}" style="max-width:100%">' for png in data["figures"]]
    if data["output"]:
        parts.append(f'<pre style="font-size:12px">{html.escape(data["output"])}</pre>')
    return "\n".join(parts)


def picture(series: dict[str, Series]) -> bytes | None:
    """The loss (else the first metric) over steps as a PNG.

    ``None`` where nothing was logged, and without matplotlib (the extra ``mlnb[picture]``).
    """
    name = "loss" if "loss" in series else next(iter(series), None)
    if name is None:
        return None
    import io

    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None

    one = series[name]
    steps, values = decimate(one.step, one.value, 1000)
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
