"""Shows runs: the newest ones as a table, or one run with its curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from IPython.display import display

from mlnb.api import Run, Runs, runs
from mlnb.errors import UsageError
from mlnb.notebook.view.live_outputs import LiveOutputs
from mlnb.render.runs_table import html_table, text_table

NEWEST = 20
"""How many runs a table shows, if no number is given."""


def install(shell: Any, outputs: LiveOutputs) -> None:
    """Show a run that is the value of a cell as its view, and ``mlnb.runs`` as a table."""
    displayed = shell.display_formatter.ipython_display_formatter
    displayed.for_type(Run, outputs.show)
    displayed.for_type(Runs, lambda shown: show_table(shown.observed(NEWEST)))


def show_runs(selected: str, outputs: LiveOutputs) -> None:
    """Show the newest runs, or the run that ``selected`` names.

    Raises
    ------
    UsageError
        if ``selected`` is neither a number nor a run.
    """
    if selected and not selected.isdigit():
        outputs.show(runs[selected])
        return
    if selected == "0":
        raise UsageError("%runs 0: a number from 1, or a run's name")
    show_table(runs.observed(int(selected) if selected else NEWEST))


def show_table(shown: Sequence[Run]) -> None:
    """Show these runs as a table."""
    display({"text/plain": text_table(shown), "text/html": html_table(shown)}, raw=True)
