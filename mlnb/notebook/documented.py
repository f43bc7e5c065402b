"""Help on a magic that is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def document(magic: Any, text: Callable[[], str]) -> None:
    """Have IPython's ``?`` show what ``text`` returns: it asks objects for ``getdoc()`` before their docstring."""
    magic.getdoc = text
