"""Lent generators: a run goes on with the session's random numbers until it gives them back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlnb.api import Run

if TYPE_CHECKING:
    from mlnb.node.data.process_state import ProcessState

_SEEDS = re.compile(r"seed|set_?(?:rng_)?state", re.IGNORECASE)
"""What code says that sets the states of generators."""


class LentGenerators:
    """The runs that go on with the states that this session's generators have.

    Parameters
    ----------
    shell
        the IPython shell.
    is_expected
        whether a run may still give something to the session.
    """

    def __init__(self, shell: Any, is_expected: Callable[[Run], bool]) -> None:
        self._shell, self._is_expected = shell, is_expected
        self._lent: list[tuple[Run, ProcessState, int]] = []
        self._varied = 0

    def add(self, run: Run, state: ProcessState) -> None:
        """``run`` was submitted by the running cell, with ``state``."""
        self._lent.append((run, state, len(self._cells) - 1))

    def vary(self, state: ProcessState) -> tuple[ProcessState, ProcessState, str | None]:
        """The process state for a new run, what it may give back, and a note if its random numbers are others.

        A cell that seeds generators, maybe to the states that they had, takes these for the session again.
        """
        from mlnb.node.data import process_state

        self._lent = [item for item in self._lent if self._is_expected(item[0])]
        lent = {
            run.name: state
            for run, state, cell in self._lent
            if not any(_SEEDS.search(text) for text in self._cells[cell + 1 : -1])
        }
        self._varied = self._varied + 1 if lent else 0
        sent, returned = process_state.vary(state, list(lent.values()), self._varied)
        if sent == returned:
            return sent, returned, None
        return (
            sent,
            returned,
            f"random numbers are other than in this session, since {', '.join(lent)} goes on with these",
        )

    @property
    def _cells(self) -> list[str]:
        """The cells that have run; the last one is the running one."""
        cells: list[str] = self._shell.history_manager.input_hist_parsed
        return cells
