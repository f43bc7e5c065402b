"""Missed variables: environment variables of the session that the run has not, and that the user's code looks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

from mlnb.node.rank.loss_names import own_frame

_expected: frozenset[str] = frozenset()
_missed: dict[str, None] = {}
_BETWEEN = frozenset({"os", "collections.abc", __name__})
"""Modules through which code reads a variable."""


class _Watched(type(os.environ)):  # type: ignore[misc]
    """``os.environ``, which notes what the user's code looks for in vain."""

    def __getitem__(self, key: Any) -> str:
        try:
            value: str = super().__getitem__(key)
        except KeyError:
            if key in _expected and _is_users(sys._getframe(1)):
                _missed[key] = None
            raise
        return value


def _is_users(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame is not None and own_frame(frame) is frame


def watch(names: Collection[str]) -> None:
    """Note from now on which of these variables the user's code looks for."""
    global _expected
    _expected = frozenset(names)
    _missed.clear()
    os.environ.__class__ = _Watched


def notes() -> Iterator[str]:
    """A note for each variable that the code has looked for in vain."""
    for name in _missed:
        yield f"the code looked for {name}, which the session has and the run has not: --env {name} passes it on"
