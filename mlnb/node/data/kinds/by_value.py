"""By value: functions and classes that the other process can't import, as the parts that they are made of.

These are functions and classes made by another function, lambdas, and whatever the cell itself defines. Of a function
its code (:mod:`mlnb.node.data.kinds.code`), variables of enclosing functions, default values and attributes are sent.
Two functions that share a variable still do. Streams refer to the functions here by name: older ones must still load.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import gc
import importlib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

from mlnb.node.data.kinds import made_by_call, weak_references
from mlnb.node.data.kinds.code import CodeLocation, ScriptCode, find, location_of


@dataclasses.dataclass(frozen=True)
class _CodeOf:
    """Stands for the code of a function of ``module``."""

    code: CodeType
    module: str


@dataclasses.dataclass(frozen=True)
class _GlobalsOf:
    """Stands for the globals of ``module``."""

    module: str


class Reducer:
    """Takes functions and classes apart, for one stream.

    Parameters
    ----------
    script
        the code of the run's script, if this is the run.
    """

    def __init__(self, script: ScriptCode | None) -> None:
        self._script = script
        self._cells: dict[int, tuple[int, CellType]] = {}

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """How a stream refers to a part of a function that isn't pickled; ``None`` for everything else."""
        if type(obj) is _CodeOf:
            return ("code", *location_of(obj.code, obj.module, self._script))
        if type(obj) is _GlobalsOf:
            return ("globals", obj.module)
        if type(obj) is CellType:
            return ("cell", self._cell_number(obj))
        return None

    def reduce(self, obj: Any) -> Any:
        """As ``reducer_override`` of a pickler: ``NotImplemented`` for what pickle can do itself."""
        if isinstance(obj, FunctionType):
            return NotImplemented if is_importable(obj) else self._function(obj)
        if isinstance(obj, type):
            return _class(obj) if obj.__flags__ & _HEAP_TYPE and not is_importable(obj) else NotImplemented
        reduce = _REDUCERS.get(type(obj))
        return NotImplemented if reduce is None else reduce(obj)

    def cells(self) -> dict[int, CellType]:
        """The variables of enclosing functions, by the numbers that refer to them."""
        return dict(self._cells.values())

    def _cell_number(self, cell: CellType) -> int:
        return self._cells.setdefault(id(cell), (len(self._cells), cell))[0]

    def _function(self, function: FunctionType) -> tuple[Any, ...]:
        module = function.__globals__.get("__name__", "__main__")
        is_of_module = module == "__main__" or vars(sys.modules.get(module, object)) is function.__globals__
        cells = function.__closure__ or ()
        contents = []
        for cell in cells:  # not before the function itself: a variable may hold it
            if id(cell) not in self._cells:
                number = self._cell_number(cell)
                try:
                    contents.append((number, cell, cell.cell_contents))
                except ValueError:  # the variable isn't assigned yet
                    continue
        state = {
            "contents": [(cell, value) for _, cell, value in contents],
            "attributes": {name: getattr(function, name) for name in _FUNCTION_ATTRIBUTES},
            "more": dict(vars(function)),
        }
        if not is_of_module:
            state["globals"] = _used_globals(function)
        arguments = (
            _CodeOf(function.__code__, module),
            _GlobalsOf(module) if is_of_module else {"__name__": module},
            tuple(cells),
        )
        return make_function, arguments, state, None, None, set_function_state


_FUNCTION_ATTRIBUTES = (
    "__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__",
)  # fmt: skip

_HEAP_TYPE = 1 << 9
"""The flag of classes that a ``class`` statement made."""


def is_importable(value: Any) -> bool:
    """Whether the other process can import a function or class: its module has it by its qualified name."""
    if not isinstance(value.__module__, str) or value.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _used_globals(function: FunctionType) -> dict[str, Any]:
    names: set[str] = set()
    queue = [function.__code__]
    while queue:
        code = queue.pop()
        names.update(code.co_names)
        queue += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def make_function(code: CodeType, namespace: dict[str, Any], cells: tuple[CellType, ...]) -> FunctionType:
    """A function without its state."""
    namespace.setdefault("__builtins__", __builtins__)
    return FunctionType(code, namespace, code.co_name, None, cells if code.co_freevars else None)


def with_variables(function: FunctionType, **cells: CellType) -> FunctionType:
    """A function like ``function`` that shares these variables with another one. Scripts refer to this by name."""
    old = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = tuple(cells.get(name, cell) for name, cell in old)
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closure)
    for name in ("__kwdefaults__", "__annotations__", "__qualname__", "__doc__", "__module__"):
        setattr(made, name, getattr(function, name))
    vars(made).update(vars(function))
    return made


def set_function_state(function: FunctionType, state: dict[str, Any]) -> None:
    """Set the variables of enclosing functions, the default values and attributes of a function."""
    for cell, value in state["contents"]:
        cell.cell_contents = value
    for name, value in state["attributes"].items():
        setattr(function, name, value)
    vars(function).update(state["more"])
    for name, value in state.get("globals", {}).items():
        function.__globals__.setdefault(name, value)


# ---- classes


def _class(cls: type) -> tuple[Any, ...]:
    make: Callable[..., type]
    arguments: tuple[Any, ...]
    if issubclass(cls, tuple) and cls.__bases__ == (tuple,) and hasattr(cls, "_fields"):
        make, arguments = make_named_tuple, (cls.__name__, cls._fields, tuple(vars(cls)["_field_defaults"].values()))
        state = _class_state(cls, _OF_NAMED_TUPLES | {*cls._fields})
    elif isinstance(cls, enum.EnumMeta):
        constants: Mapping[str, enum.Enum] = cls.__members__
        members = {name: constant.value for name, constant in constants.items()}
        make, arguments = make_enum, (type(cls), cls.__name__, cls.__bases__, members)
        state = _class_state(cls, {*vars(enum.Enum), *members}, only_functions=True)
    else:
        body = {name: vars(cls)[name] for name in _NEEDED_AT_ONCE if name in vars(cls)}
        make, arguments = make_class, (type(cls), cls.__name__, cls.__bases__, body)
        state = _class_state(cls, _MADE_ANEW | _slots(cls))
    return make, arguments, state, None, None, set_class_state


_NEEDED_AT_ONCE = ("__module__", "__slots__", "__orig_bases__")
_MADE_ANEW = frozenset({"__dict__", "__weakref__", "__module__", "__slots__", "__orig_bases__", "_abc_impl"})
_OF_NAMED_TUPLES = frozenset(vars(collections.namedtuple("_", ()))) | {"__orig_bases__"}
_KEPT = frozenset({"__doc__", "__qualname__", "__module__", "__annotations__"})


def _slots(cls: type) -> set[str]:
    return {
        name
        for name, value in vars(cls).items()
        if isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
    }


def _class_state(cls: type, skipped: set[str] | frozenset[str], *, only_functions: bool = False) -> dict[str, Any]:
    """The attributes of a class but those that are made anew with it."""
    state = {"__qualname__": cls.__qualname__, "__module__": cls.__module__}
    for name, value in vars(cls).items():
        is_function = isinstance(value, (FunctionType, property, classmethod, staticmethod))
        if name in _KEPT or (name not in skipped and (is_function or not only_functions)):
            state[name] = value
    return state


def make_class(kind: type[type], name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
    """A class with no attributes but those in ``body``."""
    return types.new_class(name, bases, {"metaclass": kind}, lambda namespace: namespace.update(body))


def make_named_tuple(name: str, fields: tuple[str, ...], defaults: tuple[Any, ...]) -> type:
    """A class as ``collections.namedtuple`` makes it."""
    return collections.namedtuple(name, fields, defaults=defaults)


def make_enum(kind: enum.EnumMeta, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    """An enumeration with these members."""

    def fill(namespace: dict[str, Any]) -> None:
        for member, value in members.items():
            namespace[member] = value  # one by one: its class counts them

    return types.new_class(name, bases, {"metaclass": kind}, fill)


def set_class_state(cls: type, state: dict[str, Any]) -> None:
    """Set attributes of a class."""
    for name, value in state.items():
        type.__setattr__(cls, name, value)


# ---- what holds functions


def _method(value: types.MethodType) -> Any:
    """A bound method; an attribute of the object that hides it would be found instead of it by its name."""
    name = getattr(value.__func__, "__name__", "")
    try:
        found = getattr(value.__self__, name, None)
    except Exception:  # noqa: BLE001 - code of the session's objects
        return NotImplemented
    is_function = isinstance(value.__func__, FunctionType)
    return (make_method, (value.__func__, value.__self__)) if is_function and found != value else NotImplemented


def make_method(function: FunctionType, owner: Any) -> types.MethodType:
    """A method of ``owner``."""
    return types.MethodType(function, owner)


def _property(value: property) -> tuple[Any, ...]:
    return property, (value.fget, value.fset, value.fdel, value.__doc__)


def _cached_property(value: functools.cached_property[Any]) -> tuple[Any, ...]:
    return make_cached_property, (value.func, value.attrname)


def make_cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    """A cached property for the attribute ``name``."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _lru_cache(value: Any) -> Any:
    if is_importable(value):
        return NotImplemented
    parameters = value.cache_parameters()
    return make_lru_cache, (value.__wrapped__, parameters["maxsize"], parameters["typed"])


def make_lru_cache(function: Callable[..., Any], size: int | None, typed: bool) -> Any:
    """An empty cache of a function's results."""
    return functools.lru_cache(size, typed)(function)


def make_mapping_proxy(mapping: dict[Any, Any]) -> types.MappingProxyType[Any, Any]:
    """A read-only view of a mapping."""
    return types.MappingProxyType(mapping)


def _type_variable(value: typing.TypeVar) -> Any:
    if getattr(sys.modules.get(value.__module__), value.__name__, None) is value:
        return NotImplemented
    flags = {"covariant": value.__covariant__, "contravariant": value.__contravariant__, "bound": value.__bound__}
    return make_type_variable, (value.__name__, value.__constraints__, flags, value.__module__)


def make_type_variable(name: str, constraints: tuple[Any, ...], flags: dict[str, Any], module: str) -> typing.TypeVar:
    """A type variable."""
    made = typing.TypeVar(name, *constraints, **flags)  # type: ignore[misc]
    made.__module__ = module
    return made


def _sentinel(value: Any) -> Any:
    """Constants of ``dataclasses``, which it compares by identity."""
    name = next((name for name, constant in vars(dataclasses).items() if constant is value), None)
    return NotImplemented if name is None else (getattr, (dataclasses, name))


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    **weak_references.REDUCERS,
    **made_by_call.REDUCERS,
    staticmethod: lambda value: (staticmethod, (value.__func__,)),
    classmethod: lambda value: (classmethod, (value.__func__,)),
    property: _property,
    typing.TypeVar: _type_variable,
    types.MethodType: _method,
    functools.cached_property: _cached_property,
    functools._lru_cache_wrapper: _lru_cache,
    types.MappingProxyType: lambda value: (make_mapping_proxy, tuple(gc.get_referents(value))),  # not a copy
    **{
        type(vars(dataclasses)[name]): _sentinel
        for name in ("MISSING", "KW_ONLY", "_FIELD", "_HAS_DEFAULT_FACTORY")
        if name in vars(dataclasses)
    },
}


class Builder:
    """Resolves what :meth:`Reducer.persistent_id` refers to, for one stream.

    Parameters
    ----------
    main
        the notebook's namespace.
    script
        the code of the run's script, if the stream comes from a run.
    """

    def __init__(self, main: dict[str, Any], script: ScriptCode | None) -> None:
        self._main, self._script = main, script
        self._cells: dict[int, CellType] = {}

    def code(self, location: CodeLocation) -> CodeType:
        """The code at a location."""
        return find(location, self._script)

    def globals(self, module: str) -> dict[str, Any]:
        """The globals of a module; the notebook's are those of ``__main__``."""
        return self._main if module == "__main__" else vars(importlib.import_module(module))

    def cell(self, number: int, live: CellType | None = None) -> CellType:
        """The variable ``number`` of enclosing functions: ``live``, if that is given, or a new one, empty at first."""
        return self._cells.setdefault(number, types.CellType() if live is None else live)

    def cells(self) -> dict[int, CellType]:
        """All of them, by number."""
        return self._cells
