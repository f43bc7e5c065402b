"""``%runs``: the newest runs as a table, or one run with its curves."""

from __future__ import annotations

from IPython.display import display

from mlnb.api import runs
from mlnb.errors import UsageError
from mlnb.notebook.view.live_outputs import LiveOutputs
from mlnb.render.runs_table import html_table, text_table


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
    newest = runs.observed(int(selected) if selected else 20)
    display({"text/plain": text_table(newest), "text/html": html_table(newest)}, raw=True)
