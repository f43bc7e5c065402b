"""Asking: reads attributes of the session's objects. Their own ``__getattr__`` may raise anything, or do anything."""

from __future__ import annotations

from typing import Any


def attribute(obj: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of an object; ``default`` if it has none, or if asking for it fails."""
    try:
        return getattr(obj, name, default)
    except Exception:  # noqa: BLE001 - the object's own code
        return default


def has_attribute(obj: Any, name: str) -> bool:
    """Whether an object has an attribute; not if asking for it fails."""
    return attribute(obj, name, _MISSING) is not _MISSING


_MISSING = object()
