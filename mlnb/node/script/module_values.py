"""Module values: attributes of local modules, their classes and functions that differ from what their source says.

Such a module is imported by the run anew. Then its attributes get the session's values; what the cell leaves in them
comes back.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

NAME = "_module_values"
"""The script's name for them: module → dotted attribute → value."""

Values = dict[str, dict[str, Any]]

_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))


class ModuleValues:
    """The attributes of the local modules of one run.

    Parameters
    ----------
    values
        what the session has sent: module → dotted attribute → value.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._plain: dict[str, dict[str, Any]] = {}

    def set(self) -> None:
        """Set the attributes, wherever a module of the same package refers to what they were."""
        replaced: dict[int, tuple[Any, Any]] = {}
        for name, values in self._values.items():
            module = importlib.import_module(name)
            for path, value in values.items():
                replaced.update(set_attribute(module, path, value))
        roots = {name.split(".")[0] for name in self._values}
        for name, module in list(sys.modules.items()) if replaced else ():
            if name.split(".")[0] not in roots or type(module) is not ModuleType:
                continue
            for attribute, value in list(vars(module).items()):
                if id(value) in replaced:
                    setattr(module, attribute, replaced[id(value)][1])
        self._plain = {name: dict(_plain(sys.modules[name])) for name in self._values}

    def update(self) -> None:
        """Take the values that the attributes have now, and those that have changed since :meth:`set`."""
        for name, values in self._values.items():
            module = sys.modules.get(name)
            if module is None:
                continue
            for path in list(values):
                try:
                    values[path] = get_attribute(module, path)
                except AttributeError:
                    del values[path]
            before = self._plain.get(name, {})
            for path, value in _plain(module):
                if path not in before or type(before[path]) is not type(value) or before[path] != value:
                    values[path] = value


def set_attribute(owner: Any, path: str, value: Any) -> Mapping[int, tuple[Any, Any]]:
    """Set a dotted attribute; returns what a mutable object was replaced by, by its id."""
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    old = vars(owner).get(last)
    if old is value:
        return {}
    setattr(owner, last, value)
    return {} if old is None or isinstance(old, _PLAIN) else {id(old): (old, value)}


def get_attribute(owner: Any, path: str) -> Any:
    """The value of a dotted attribute, as it stands in its owner."""
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    try:
        return vars(owner)[last]
    except KeyError:
        raise AttributeError(path) from None


def _plain(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The plain values in a module, its classes and its functions."""
    for name, value in list(vars(module).items()):
        if name.startswith("__"):
            continue
        if isinstance(value, (type, FunctionType)) and value.__module__ == module.__name__:
            inner = list(vars(value).items())
            yield from ((f"{name}.{key}", v) for key, v in inner if isinstance(v, _PLAIN) and not key.startswith("__"))
        elif isinstance(value, _PLAIN):
            yield name, value


current: ModuleValues | None = None
"""The module values of this process's run; ``None`` if there are none."""


def set_module_values(values: Values) -> None:
    """Set the attributes of the run's local modules, and remember them: ``script.py`` calls this."""
    global current
    current = ModuleValues(values)
    current.set()
