"""The runs as a table: ``mlnb runs`` and ``%runs``."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from mlnb.api import Run
from mlnb.render.table import as_html, as_text
from mlnb.units import format_time

HEADER = ("name", "state", "why", "on", "started", "took", "loss", "id")


def row(run: Run) -> tuple[str, ...]:
    """One run as the cells of :data:`HEADER`."""
    seen = run.observe()
    loss = run.series().get("loss")
    submitted = float(run.about.get("submitted", 0.0))
    seconds = (seen.result or {}).get("seconds")
    return (
        run.name,
        seen.state,
        seen.reason,
        run.target,
        time.strftime("%d %b %H:%M", time.localtime(submitted)),
        format_time(seconds) if seconds is not None else "",
        f"{loss.value[-1]:.4g}" if loss is not None else "",
        run.id,
    )


def text_table(found: Sequence[Run]) -> str:
    """The runs as plain text."""
    if not found:
        return "no runs yet: %%train on top of a cell, or mlnb run script.py, makes one"
    return as_text(HEADER, [row(run) for run in found])


def html_table(found: Sequence[Run]) -> str:
    """The runs as HTML."""
    if not found:
        return f"<p>{html.escape(text_table(found))}</p>"
    return as_html(HEADER, [row(run) for run in found])
