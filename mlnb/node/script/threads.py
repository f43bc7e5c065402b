"""Ends what a program has left running: threads of a script as Python does, those of a cell after a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from mlnb.units import format_limit

PATIENCE = 10.0
"""Seconds that the threads and processes of a cell have to end after the cell's last statement."""


def finish(*, is_cell: bool) -> list[str]:
    """Wait for the threads and processes that are not daemons.

    Those of a script are waited for until they end, as Python does. In a notebook, a cell has ended with its last
    statement, whatever its threads do, so those of a cell are waited for only for :data:`PATIENCE`.

    Returns
    -------
    list
        notes that name what still runs. It ends with the rank.
    """
    if not is_cell:
        threading._shutdown()  # type: ignore[attr-defined]
        return []
    end = time.monotonic() + PATIENCE
    threading.Thread(target=_end_executors, daemon=True).start()  # in a thread: their work may never end
    while (left := [*_threads(), *_processes()]) and time.monotonic() < end:
        left[0].join(min(0.1, PATIENCE))
    notes = []
    for kind, items in (("thread", _threads()), ("process", _processes())):
        if items:
            notes.append(_note(kind, [item.name for item in items]))
    for process in _processes():
        process.kill()
    return notes


def _note(kind: str, names: Sequence[str]) -> str:
    return (
        f"{kind} {', '.join(names)} still ran {format_limit(PATIENCE)} after the cell's last statement and was ended: "
        f"a run ends with its cell. If the {kind} has to finish, call join() in the cell"
    )


def _threads() -> list[threading.Thread]:
    """The threads that a script would have to wait for."""
    own = (threading.current_thread(), threading.main_thread())
    return [thread for thread in threading.enumerate() if thread.is_alive() and not thread.daemon and thread not in own]


def _processes() -> list[Any]:
    """The child processes that a script would have to wait for."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return [child for child in multiprocessing.active_children() if not child.daemon] if multiprocessing else []


def _end_executors() -> None:
    """Let the threads of ``concurrent.futures`` finish what was submitted, and end."""
    for call in reversed(getattr(threading, "_threading_atexits", [])):
        call()
