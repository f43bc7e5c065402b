"""Capture: turns a cell and what it needs of its session into a program that other processes can run.

>>> captured = capture(cell, Session(shell.user_ns, shell.user_ns_hidden, shell.user_ns["In"]))
>>> print(captured.script)

Nothing is written, and no data is copied or hashed, before :meth:`Captured.hashed_contents`.

The names here are loaded on first use: ``mlnb run`` needs only the local modules of a script, and so no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.capture.capturing import capture
    from mlnb.capture.names.analysis import analyse, reach
    from mlnb.capture.session import Captured, PlanItem, Session

__all__ = ["Captured", "PlanItem", "Session", "analyse", "capture", "reach"]

_LAZY = {
    "capture": "capturing",
    **dict.fromkeys(("analyse", "reach"), "names.analysis"),
    **dict.fromkeys(("Captured", "PlanItem", "Session"), "session"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mlnb.capture' has no attribute {name!r}")
    value = getattr(import_module(f"mlnb.capture.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
