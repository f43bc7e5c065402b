"""Reachability: which objects of the session some names lead to, at any depth.

The search follows what objects refer to, as the garbage collector knows it, so none of the session's own code runs. Of
a function it follows the names that its code reads, not all globals. Libraries are not searched, nor what IPython and
mlnb keep.
"""

from __future__ import annotations

import enum
import gc
import sys
import sysconfig
import types
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from mlnb.capture.names.analysis import global_reads
from mlnb.capture.names.closures import closure_items
from mlnb.notebook.waiting.memory import Memory, hidden_parts, is_array

LIMIT = 3_000_000
"""How many references are followed; beyond, everything counts as reached."""

_ATOMS = frozenset({int, float, complex, bool, bytes, type(None), type(...), type(NotImplemented), range, slice})
_PLAIN = frozenset({dict, list, set, tuple, deque})
"""Types whose objects are nothing but what they refer to."""

_UNTRACKED = (dict, bytearray)
"""Types of which an object may change although the garbage collector does not track it."""

_CUT = (types.FrameType, types.TracebackType, types.CodeType, enum.Enum)
_CUT_ROOTS = frozenset({"IPython", "comm", "ipykernel", "logging", "mlnb", "zmq"})
"""Packages whose objects lead to the whole session, or to nothing of it."""


@dataclass
class Reached:
    """What some names lead to.

    Attributes
    ----------
    names
        the names themselves, and those that functions read.
    objects
        objects by id. They are kept, so that an id stays that of its object.
    memory
        the memory of tensors and arrays.
    codes
        the code of the session's functions.
    strings
        strings and paths.
    complete
        whether the search came to its end.
    """

    names: set[str] = field(default_factory=set)
    objects: dict[int, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    codes: set[types.CodeType] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    complete: bool = True


class _Search:
    def __init__(self, namespace: Mapping[str, Any], *, through_data: bool) -> None:
        self.namespace, self._through_data = namespace, through_data
        self.reached = Reached()
        self._names: deque[str] = deque()
        self._items: deque[Any] = deque()
        self._plain: list[Any] = []
        self._visited: set[int] = {id(namespace), id(sys.modules), id(sys.modules.get("__main__"))}
        self._left = LIMIT

    def run(self, names: Iterable[str], values: Iterable[Any]) -> Reached:
        self._names.extend(names)
        self._add(list(values))
        while self._names or self._items or self._plain:
            if self._left < 0:
                self.reached.complete = False
                break
            if self._items:
                self._visit(self._items.popleft())
            elif self._plain:
                batch, self._plain = self._plain, []
                self._add(gc.get_referents(*batch))
            else:
                self._read(self._names.popleft())
        return self.reached

    def _read(self, name: str) -> None:
        if name not in self.reached.names:
            self.reached.names.add(name)
            if name in self.namespace:
                self._add([self.namespace[name]])

    def _add(self, values: Collection[Any]) -> None:
        self._left -= len(values)
        visited, objects, strings = self._visited, self.reached.objects, self.reached.strings
        for value in values:
            kind = type(value)
            if kind in _ATOMS:
                continue
            if kind is str:
                if len(value) < _LONGEST_STRING and len(strings) < _MOST_STRINGS:
                    strings.add(value)
            elif id(value) not in visited:
                if kind in _PLAIN:
                    visited.add(id(value))
                    if kind is not tuple:
                        objects[id(value)] = value
                    self._plain.append(value)
                elif gc.is_tracked(value) or issubclass(kind, _UNTRACKED) or is_array(kind):
                    visited.add(id(value))
                    self._items.append(value)

    def _visit(self, item: Any) -> None:
        kind = type(item)  # not isinstance(): an object may have a property __class__
        if issubclass(kind, types.FunctionType):
            self._visit_function(item)
        elif issubclass(kind, types.ModuleType):
            if is_own(vars(item).get("__name__")):
                self._add(list(vars(item).values()))
        elif issubclass(kind, type):
            if is_own(vars(item).get("__module__")):
                self._add([*vars(item).values(), *item.__bases__])
        elif issubclass(kind, types.BuiltinFunctionType):
            self._add([item.__self__])
        elif not issubclass(kind, _CUT) and str(kind.__module__).partition(".")[0] not in _CUT_ROOTS:
            self._visit_object(item, kind)

    def _visit_object(self, item: Any, kind: type) -> None:
        if not self._through_data and issubclass(kind, _data_kinds()):
            return
        if kind not in (frozenset, types.CellType, types.MethodType):
            self.reached.objects[id(item)] = item
        self.reached.memory.add(item)
        if issubclass(kind, PurePath):
            self.reached.strings.add(str(item))
        elif issubclass(kind, weakref.ref):
            self._add([weakref.ref.__call__(item)])
        elif issubclass(kind, types.GeneratorType):
            self._add_code(item.gi_code)
        elif issubclass(kind, types.CoroutineType):
            self._add_code(item.cr_code)
        self._add(gc.get_referents(item))
        self._add(hidden_parts(item))
        if is_own(kind.__module__):
            self._add([kind])

    def _visit_function(self, function: types.FunctionType) -> None:
        own = function.__globals__
        if own is self.namespace:
            self._add_code(function.__code__)
        elif is_own(own.get("__name__")):
            self._add([own[name] for name in global_reads(function.__code__) if name in own])
        self._add([content for _, content in closure_items(function)])
        self._add([function.__defaults__, function.__kwdefaults__, function.__dict__])

    def _add_code(self, code: types.CodeType) -> None:
        self.reached.codes.add(code)
        self._names.extend(global_reads(code))


_LONGEST_STRING, _MOST_STRINGS = 4096, 10_000


def _data_kinds() -> tuple[type, ...]:
    data = sys.modules.get("torch.utils.data")
    return () if data is None else (data.Dataset, data.DataLoader, data.Sampler)


def reach(names: Iterable[str], namespace: Mapping[str, Any]) -> Reached:
    """What ``names`` lead to in the session ``namespace``."""
    return _Search(namespace, through_data=True).run(names, ())


def parts_of(values: Iterable[Any], namespace: Mapping[str, Any]) -> Reached:
    """What ``values`` consist of and refer to; datasets and loaders, which training only reads, are left out."""
    return _Search(namespace, through_data=False).run((), values)


@lru_cache(maxsize=4096)
def is_own(module: object) -> bool:
    """Whether a module (by name) is the notebook or a file of the user's, not a library."""
    if module == "__main__":
        return True
    if not isinstance(module, str) or module.partition(".")[0] in {*sys.stdlib_module_names, *_CUT_ROOTS}:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.modules and getattr(sys.modules[module], "__path__", None) is None
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _library_folders())


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
