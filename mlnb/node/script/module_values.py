"""Module values: attributes of local modules, their classes and functions that differ from what their source says.

Such a module is imported by the run anew. Then its attributes get the session's values; what the cell leaves in them
comes back, each attribute by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from mlnb.node.data.kinds import caches
from mlnb.node.data.sent import ATTRIBUTE, Removed

NAME = "_module_values"
"""The script's name for them: module → dotted attribute → value."""

CACHE = "<cache>"
"""Stands in a dotted name for what a function has cached."""

Values = dict[str, dict[str, Any]]
Attribute = tuple[str, str, Any]
"""A module, a dotted attribute of it, and its value."""

_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))


class ModuleValues:
    """The attributes of the local modules of one run.

    Parameters
    ----------
    values
        what the session has sent: module → dotted attribute → value.
    others
        the other local modules of the session: those that are loaded when the cell begins are watched, too.
    """

    def __init__(self, values: Values, others: Iterable[str] = ()) -> None:
        self._values, self._others = values, tuple(others)
        self._before: dict[str, dict[str, Any]] = {}
        self._prints: dict[tuple[str, str], Any] = {}

    def set(self) -> None:
        """Set the attributes, wherever a module of the same package refers to what they were."""
        for name in self._values:
            _module(name)
        set_attributes((name, path, value) for name, values in self._values.items() for path, value in values.items())

    def watch(self, fingerprint: Callable[[Any], Any] = id) -> None:
        """Note what the attributes are before the cell; ``fingerprint`` tells whether a value is unchanged."""
        others = [name for name in self._others if name in sys.modules]
        self._before = {name: dict(_attributes(_module(name))) for name in [*self._values, *others]}
        self._prints = {
            (name, path): fingerprint(value) for name, values in self._values.items() for path, value in values.items()
        }

    def changes(self, fingerprint: Callable[[Any], Any] = id) -> dict[str, Attribute]:
        """What the cell has set, changed or deleted since :meth:`watch`, each attribute under a name of its own."""
        found: dict[str, Attribute] = {}
        for name, before in self._before.items():
            module = sys.modules.get(name)
            now = {} if module is None else dict(_attributes(module))
            for path, value in now.items():
                is_same = path in before and _same(before[path], value)
                if is_same and (name, path) in self._prints:
                    is_same = self._prints[name, path] == fingerprint(value)
                if not is_same:
                    found[f"{ATTRIBUTE}{name}.{path}"] = name, path, value
            owners = now.keys() | {""}
            for path in before.keys() - now.keys() if module is not None else ():
                if path.rpartition(".")[0] in owners:
                    found[f"{ATTRIBUTE}{name}.{path}"] = name, path, Removed
        return found


def set_attributes(attributes: Iterable[Attribute]) -> None:
    """Set attributes of modules, wherever a module of the same package refers to what they were."""
    replaced: dict[int, tuple[Any, Any]] = {}
    roots: set[str] = set()
    for name, path, value in attributes:
        roots.add(name.split(".")[0])
        replaced.update(_set(_module(name), path, value))
    for name, module in list(sys.modules.items()) if replaced else ():
        if name.split(".")[0] not in roots or type(module) is not ModuleType:
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in replaced:
                setattr(module, attribute, replaced[id(value)][1])


def _module(name: str) -> ModuleType:
    return sys.modules.get(name) or importlib.import_module(name)


def _set(owner: Any, path: str, value: Any) -> Mapping[int, tuple[Any, Any]]:
    """Set a dotted attribute; returns what a mutable object was replaced by, by its id."""
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    if last == CACHE:
        caches.fill(owner, value)
        return {}
    old = vars(owner).get(last)
    if old is value:
        return {}
    if value is Removed:
        with contextlib.suppress(AttributeError):
            delattr(owner, last)
        return {}
    setattr(owner, last, value)
    return {} if old is None or isinstance(old, _PLAIN) else {id(old): (old, value)}


def _same(before: Any, now: Any) -> bool:
    return (
        before is now
        or caches.same(before, now)
        or (type(before) is type(now) and isinstance(now, _PLAIN) and bool(before == now))
    )


def _attributes(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, and those of its classes and functions, by their dotted names."""
    for name, value in list(vars(module).items()):
        if name.startswith("__") or (isinstance(value, ModuleType) and value.__name__ == f"{module.__name__}.{name}"):
            continue
        yield name, value
        if isinstance(value, (type, FunctionType, caches.KIND)) and value.__module__ == module.__name__:
            inner = [] if isinstance(value, caches.KIND) else list(vars(value).items())
            yield from ((f"{name}.{key}", v) for key, v in inner if not key.startswith(("__", "_abc_")))
            cached = caches.of_class(value) if isinstance(value, type) else ()
            yield from ((f"{name}.{key}.{CACHE}", caches.entries(function)) for key, function in cached)
            if isinstance(value, caches.KIND):
                yield f"{name}.{CACHE}", caches.entries(value)


current: ModuleValues | None = None
"""The module values of this process's run; ``None`` if there are none."""


def set_module_values(values: Values, *others: str) -> None:
    """Set the attributes of the run's local modules, and remember them: ``script.py`` calls this."""
    global current
    current = ModuleValues(values, others)
    current.set()
    current.watch()
