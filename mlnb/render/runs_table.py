"""The table of runs that ``mlnb runs`` and ``%runs`` print."""

from __future__ import annotations

import contextlib
import html
import time
from collections.abc import Sequence

from mlnb.api import Run
from mlnb.render.format import format_time, format_value
from mlnb.render.table import as_html, as_text

HEADER = ("name", "state", "why", "on", "started", "took", "loss", "id")


def row(run: Run) -> tuple[str, ...]:
    """One run as the cells of :data:`HEADER`; its loss is left out if its metrics can't be read."""
    observed = run.observe()
    loss = None
    with contextlib.suppress(Exception):  # one unreadable run must not keep the others from being listed
        loss = run.series().get("loss")
    submitted = run.info.submitted
    seconds = (observed.result or {}).get("seconds")
    return (
        run.name,
        observed.state,
        observed.reason,
        run.target,
        time.strftime("%d %b %H:%M", time.localtime(submitted)),
        format_time(seconds) if seconds is not None else "",
        format_value(float(loss.value[-1])) if loss is not None else "",
        run.id,
    )


def text_table(runs: Sequence[Run]) -> str:
    """The runs as plain text."""
    if not runs:
        return "No runs yet. Start one: %%train on top of a cell, or mlnb run script.py"
    return as_text(HEADER, [row(run) for run in runs])


def html_table(runs: Sequence[Run]) -> str:
    """The runs as HTML."""
    if not runs:
        return f"<p>{html.escape(text_table(runs))}</p>"
    return as_html(HEADER, [row(run) for run in runs])
