"""Sent definitions: the functions and classes that the script defines before the cell, as objects of the session."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any


class SentDefinitions:
    """Functions and classes of the session that the script defines again before the cell.

    What comes back refers to them by name, and gets the session's own objects.

    Parameters
    ----------
    namespace
        the script's globals before the cell runs.
    data
        the session's data among them.
    made_anew
        what the script has made as the session had made it.

    Attributes
    ----------
    names
        id → name.
    by_name
        the definitions.
    """

    def __init__(self, namespace: Mapping[str, Any], data: Mapping[str, Any], made_anew: Mapping[str, Any]) -> None:
        self.by_name = {
            name: value
            for name, value in namespace.items()
            if callable(value) and _is_notebooks(value) and (name not in data or isinstance(value, _KINDS))
        } | dict(made_anew)
        self.names: dict[int, str] = {}
        for name, value in self.by_name.items():
            self.names.setdefault(id(value), name)


_KINDS = (type, types.FunctionType)


def _is_notebooks(value: Any) -> bool:
    """Whether a value isn't a library's."""
    if isinstance(value, _KINDS) or not hasattr(value, "__dict__"):
        return getattr(value, "__module__", None) == "__main__"
    return True
