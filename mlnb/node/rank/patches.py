"""Attributes of other people's classes, replaced, and put back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Patches:
    """What was replaced, so that it can be put back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def set(self, owner: type, name: str, value: object) -> None:
        """Replace an attribute that ``owner`` itself defines."""
        self._undo.append(functools.partial(setattr, owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def wrap(self, owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Replace a method by what ``wrapper`` makes of it, with its name and words."""
        original = vars(owner)[name]
        self.set(owner, name, functools.wraps(original)(wrapper(original)))

    def later(self, undo: Callable[[], object]) -> None:
        """Have ``undo`` called as well."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back, the last first. Whoever wrapped the same on top of it must have done so before."""
        while self._undo:
            self._undo.pop()()
