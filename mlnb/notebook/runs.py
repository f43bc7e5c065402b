"""``%runs``: the newest runs as a table, or one run's view."""

from __future__ import annotations

from IPython.display import display

from mlnb.api import runs
from mlnb.errors import UsageError
from mlnb.notebook.live_outputs import LiveOutputs
from mlnb.render.runs_table import html_table, text_table


def show_runs(what: str, views: LiveOutputs) -> None:
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
    display({"text/plain": text_table(found), "text/html": html_table(found)}, raw=True)
