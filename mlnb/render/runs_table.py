"""``%runs``: the runs as a table, for eyes and for screen readers."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from IPython.display import display

from mlnb.api import Run, runs
from mlnb.errors import UsageError
from mlnb.notebook.live_outputs import Views
from mlnb.units import say_time

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
        say_time(seconds) if seconds is not None else "",
        f"{loss.value[-1]:.4g}" if loss is not None else "",
        run.id,
    )


def text_table(found: list[Run]) -> str:
    """The runs as plain text."""
    if not found:
        return "no runs yet: %%train on top of a cell, or mlnb run script.py, makes one"
    return as_text(HEADER, [row(run) for run in found])


def as_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text; long cells are cut."""
    lines = [tuple(header), *(tuple(_short(cell) for cell in one) for one in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML, for eyes and for screen readers."""
    head = "".join(f'<th style="text-align:left">{html.escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in one) + "</tr>"
        for one in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(cell: str) -> str:
    return cell if len(cell) <= 48 else cell[:47] + "…"


def show_runs(what: str, views: Views) -> None:
    """Show the newest runs, or the one that ``what`` names.

    Raises
    ------
    UsageError
        if ``what`` is neither a number nor a run.
    """
    if what and not what.isdigit():
        views.show(runs[what])
        return
    if what == "0":
        raise UsageError("%runs 0: a number from 1, or a run's name")
    found = runs.observed(int(what) if what else 20)
    display({"text/plain": text_table(found), "text/html": _html(found)}, raw=True)


def _html(found: list[Run]) -> str:
    if not found:
        return f"<p>{html.escape(text_table(found))}</p>"
    return as_html(HEADER, [row(run) for run in found])
