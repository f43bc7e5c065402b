"""Capture: from a cell and the session it stands in to a program that can run anywhere.

>>> captured = capture(cell, Session(shell.user_ns, shell.user_ns_hidden, shell.user_ns["In"]))
>>> print(captured.script)

Nothing is written, and no bulk is copied or hashed, before :meth:`Captured.finish`.
"""

from __future__ import annotations

from mlnb.capture.capturing import capture
from mlnb.capture.contents import Content
from mlnb.capture.names import CellNames, analyse, reach
from mlnb.capture.session import Captured, Definition, Item, Session

__all__ = ["Captured", "CellNames", "Content", "Definition", "Item", "Session", "analyse", "capture", "reach"]
