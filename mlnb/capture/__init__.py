"""Capture: from a cell and the session it stands in to a program that can run anywhere.

>>> captured = capture(cell, Session(shell.user_ns, shell.user_ns_hidden, shell.user_ns["In"]))
>>> print(captured.script)

Nothing is written, and no bulk is copied or hashed, before :meth:`Captured.finish`.

Loaded on first use: ``mlnb run`` needs the local modules of a script, and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.capture.capturing import capture
    from mlnb.capture.names.analysis import CellNames, analyse, reach
    from mlnb.capture.session import Captured, Definition, Item, Session
    from mlnb.capture.ship.contents import Content

__all__ = ["Captured", "CellNames", "Content", "Definition", "Item", "Session", "analyse", "capture", "reach"]

_LAZY = {
    "capture": "capturing",
    "Content": "ship.contents",
    **dict.fromkeys(("CellNames", "analyse", "reach"), "names.analysis"),
    **dict.fromkeys(("Captured", "Definition", "Item", "Session"), "session"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mlnb.capture' has no attribute {name!r}")
    value = getattr(import_module(f"mlnb.capture.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
