"""Sent definitions: the functions and classes that the script defines before the cell, as objects of the session."""

from __future__ import annotations

import abc
import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from mlnb.node.data.asking import has_attribute
from mlnb.node.data.kinds import caches

Path = tuple[tuple[str, Any], ...]
"""Where a value is in a definition: steps, each an ``attribute`` or a ``variable`` of an enclosing function with its
name, a ``default`` value with its index, or that of a ``keyword``; ``cache`` for what a function has cached."""

STATE_OF = "state of "
"""With the name of a definition: the name under which its state is returned."""


ATTRIBUTE = "module attribute "
"""With the dotted name of an attribute of a local module: the name under which it is returned."""


class Removed:
    """Stands for the value of an attribute that the cell has deleted."""


_KINDS = (type, types.FunctionType)
PLAIN = (int, float, complex, str, bytes, bool, type(None))
"""Types of values that nobody can tell from equal ones."""


class SentDefinitions:
    """Functions and classes of the session that the script defines again before the cell.

    What comes back refers to them by name, and gets the session's own objects. What the cell has changed in them comes
    back as their state: class attributes, attributes of functions, variables of enclosing functions, default values.

    Parameters
    ----------
    namespace
        the script's globals before the cell runs.
    data
        the session's data among them.
    made_anew
        what the script has made as the session had made it.
    returned
        the names of those values that come back by themselves if the cell changes them.

    Attributes
    ----------
    names
        id → name.
    by_name
        the definitions.
    """

    def __init__(
        self,
        namespace: Mapping[str, Any],
        data: Mapping[str, Any],
        made_anew: Mapping[str, Any] = MappingProxyType({}),
        returned: Iterable[str] = (),
    ) -> None:
        self.by_name = {
            name: value
            for name, value in namespace.items()
            if callable(value) and _is_notebooks(value) and (name not in data or isinstance(value, _KINDS))
        } | dict(made_anew)
        self.names: dict[int, str] = {}
        for name, value in self.by_name.items():
            self.names.setdefault(id(value), name)
        self._returned = {id(data[name]) for name in returned if name in data}
        self._before: dict[tuple[str, Path], tuple[Any, Any]] | None = None
        self._code_before: dict[tuple[str, Path], Any] = {}

    def remember(self, fingerprint: Callable[[Any], Any]) -> None:
        """Note the state of the definitions; ``fingerprint`` tells whether a value is unchanged."""
        self._before = {
            (name, path): (value, self._print(value, fingerprint))
            for name in self.names.values()
            for path, value in self._state(name)
        }
        self._code_before = {
            (name, path): value for name in self.names.values() for path, value in self._code(name).items()
        }

    def changes(self, fingerprint: Callable[[Any], Any]) -> dict[str, Any]:
        """The definitions whose state has changed, each with what has, by :data:`STATE_OF` + name."""
        changed: dict[str, Any] = {}
        if self._before is None:
            return changed
        for name in self.names.values():
            state = self._replaced(name)
            for path, value in self._state(name):
                if any(path[:length] in state for length in range(1, len(path))):
                    continue  # it comes with what is new there
                before, printed = self._before.get((name, path), (changed, None))
                is_same = before is value or (_is_plain(value) and before == value and type(before) is type(value))
                is_same = is_same or caches.same(before, value)
                if not is_same or self._print(value, fingerprint) != printed:
                    state[path] = value
            if state:
                changed[STATE_OF + name] = (self.by_name[name], state)
        return changed

    def of_cell(
        self, namespace: Mapping[str, Any], names: Iterable[str], fingerprint: Callable[[Any], Any]
    ) -> dict[str, Any]:
        """The classes that the cell has defined, each with its state, as :meth:`changes` returns it.

        The session runs their ``class`` statements again, which gives the state that they had at first. So it is for
        functions with a cache.
        """
        found: dict[str, Any] = {}
        for name in names:
            cls: Any = namespace.get(name)
            is_plain = type(cls) in (type, abc.ABCMeta) and not issubclass(cls, tuple)
            is_plain = is_plain or isinstance(cls, caches.KIND)
            if not is_plain or id(cls) in self.names or (cls.__module__, cls.__qualname__) != ("__main__", name):
                continue
            others = self.names | {id(value): other for other, value in namespace.items() if value is not cls}
            state = {path: value for path, value in state_of(cls, others) if fingerprint(value) is not None}
            if state:
                found[STATE_OF + name] = (cls, state)
        return found

    def _replaced(self, name: str) -> dict[Path, Any]:
        """The functions, properties and the like that the cell has put into a definition, and what it has removed."""
        before = self._code_before
        replaced = {
            path: value for path, value in self._code(name).items() if before.get((name, path), Removed) is not value
        }
        for other, path in (*(self._before or ()), *self._code_before):
            is_removed = path[-1][0] == "attribute" and path[-1][1] not in _attributes(self.by_name[name])
            if other == name and len(path) == 1 and is_removed:
                replaced[path] = Removed
        return replaced

    def _code(self, name: str) -> dict[Path, Any]:
        """What the attributes of a definition are, where that isn't state: methods, properties, classes in it."""
        attributes = _attributes(self.by_name[name])
        return {(("attribute", key),): value for key, value in attributes.items() if not _is_state(value)}

    def _state(self, name: str) -> Iterator[tuple[Path, Any]]:
        return state_of(self.by_name[name], self.names)

    def _print(self, value: Any, fingerprint: Callable[[Any], Any]) -> Any:
        return None if _is_plain(value) or id(value) in self._returned else fingerprint(value)


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN


def _is_notebooks(value: Any) -> bool:
    """Whether a value isn't a library's."""
    if isinstance(value, _KINDS) or not has_attribute(value, "__dict__"):
        return getattr(value, "__module__", None) == "__main__"
    return True


# ---- state


def state_of(definition: Any, others: Mapping[int, Any]) -> Iterator[tuple[Path, Any]]:
    """The values in a function or class of the notebook, and in those in it that have no name of their own.

    Parameters
    ----------
    others
        ids of definitions whose state isn't part of this one's.
    """
    queue: list[tuple[Path, Any]] = [((), definition)]
    visited = {id(definition)}
    while queue:
        path, item = queue.pop()
        for step, value in _parts(item):
            inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            if isinstance(inner, _KINDS):
                is_inside = _is_notebooks(inner) and id(inner) not in visited and id(inner) not in others
                if is_inside and inner.__module__ == "__main__" and len(path) < 4:
                    visited.add(id(inner))
                    queue.append(((*path, step), inner))
            elif isinstance(inner, caches.KIND):
                if id(inner) not in others:
                    yield (*path, step, _CACHE), caches.entries(inner)
            elif _is_state(value):
                yield (*path, step), value


def _is_state(value: Any) -> bool:
    """Whether a value in a definition is data: no code, and nothing of Python's that it calls to get an attribute."""
    inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if isinstance(inner, (*_KINDS, types.ModuleType)):
        return False
    return not hasattr(type(value), "__get__") or type(value).__module__ == "__main__"


def _attributes(item: Any) -> dict[str, Any]:
    """The attributes of a function or class itself, but those of Python's own machinery."""
    found = dict(vars(item)) if isinstance(item, _KINDS) else {}
    return {name: value for name, value in found.items() if not name.startswith("_abc_")}


_CACHE = ("cache", "")


def _parts(item: Any) -> Iterator[tuple[tuple[str, Any], Any]]:
    if isinstance(item, caches.KIND):
        yield _CACHE, caches.entries(item)
        return
    for name, value in _attributes(item).items():
        if not name.startswith("__"):
            yield ("attribute", name), value
    if not isinstance(item, types.FunctionType):
        return
    for index, value in enumerate(item.__defaults__ or ()):
        yield ("default", index), value
    for name, value in (item.__kwdefaults__ or {}).items():
        yield ("keyword", name), value
    for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
        try:
            yield ("variable", name), cell.cell_contents
        except ValueError:  # it isn't assigned yet
            continue


def put_state(definition: Any, state: Mapping[Path, Any]) -> None:
    """Set values in a definition."""
    for path, value in state.items():
        holder = definition
        for step in path[:-1]:
            holder = dict(_parts(holder)).get(step)
            holder = holder.__func__ if isinstance(holder, (staticmethod, classmethod)) else holder
        if isinstance(holder, (*_KINDS, caches.KIND)):
            _set(holder, *path[-1], value)


def _set(holder: Any, kind: str, name: Any, value: Any) -> None:
    if value is Removed:
        with contextlib.suppress(AttributeError):
            type.__delattr__(holder, name) if isinstance(holder, type) else delattr(holder, name)
    elif kind == "cache":
        caches.fill(holder, value)
    elif kind == "attribute":
        type.__setattr__(holder, name, value) if isinstance(holder, type) else setattr(holder, name, value)
    elif kind == "default":
        defaults = list(holder.__defaults__)
        if defaults[name] is not value:
            defaults[name] = value
            holder.__defaults__ = tuple(defaults)
    elif kind == "keyword":
        holder.__kwdefaults__[name] = value
    else:
        holder.__closure__[holder.__code__.co_freevars.index(name)].cell_contents = value
