"""Importing dask_jobqueue without what its import does to the process."""

from __future__ import annotations

import importlib
import signal
import threading
from types import ModuleType

_IMPORTING = threading.Lock()


def imported(module: str) -> ModuleType:
    """A module of dask_jobqueue, whose import has SIGINT end the process, and fails outside of the main thread.

    (Its runner.py does so, which we don't use.) In a notebook SIGINT is the interrupt of a cell.
    """
    with _IMPORTING:
        importing, taken = threading.get_ident(), signal.signal
        # other threads may set theirs meanwhile
        signal.signal = lambda *given: None if threading.get_ident() == importing else taken(*given)
        try:
            return importlib.import_module(module)
        finally:
            signal.signal = taken
