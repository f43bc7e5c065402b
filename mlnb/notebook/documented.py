"""Help on magics that is generated when the user asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def document(magic: Any, text: Callable[[], str]) -> None:
    """Have IPython's ``?`` show what ``text`` returns: IPython prefers ``getdoc()`` of an object to its docstring."""
    magic.getdoc = text
