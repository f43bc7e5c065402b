"""Faults: which values hold an object that could not be loaded."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlnb.node.data.pickling.building import is_missing

_LEAVES = (type, types.ModuleType, types.CodeType, types.FrameType, str, bytes, int, float)


def _referents(_: Any) -> None:
    return None


def find_fault(
    roots: Iterable[Any],
    faults: Mapping[int, str],
    parts_of: Callable[[Any], Iterable[Any] | None] = _referents,
    clean: set[int] | None = None,
) -> str | None:
    """Find an object that could not be loaded in ``roots`` and all that they refer to.

    Parameters
    ----------
    faults
        ``id`` of objects that could not be loaded → why.
    parts_of
        called with each object: what it will contain, where that isn't what it contains now.
    clean
        ``id`` of objects that are known to hold none; those that are found here are added.

    Returns
    -------
    str or None
        why; empty for a definition that is missing; ``None`` if there is no such object.
    """
    stack = list(roots)
    visited: set[int] = set()
    while stack:
        value = stack.pop()
        if id(value) in visited or (clean is not None and id(value) in clean):
            continue
        visited.add(id(value))
        if id(value) in faults:
            return faults[id(value)]
        if is_missing(value):
            return ""
        if isinstance(value, _LEAVES):
            continue
        parts = parts_of(value)
        if parts is not None:
            stack += parts
        elif isinstance(value, types.FunctionType):  # not its globals: all names of the session
            stack += [value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__]
        else:
            stack += gc.get_referents(value)
    if clean is not None:
        clean |= visited
    return None
