"""Introspection of live functions and classes: what they wrap, close over and consist of."""

from __future__ import annotations

import abc
import functools
import types
import typing
from collections import deque
from collections.abc import Iterator
from typing import Any

from mlnb.capture.names.closures import closure_items
from mlnb.capture.source.bytecode import defines, flags_of
from mlnb.capture.source.nodes import SourceNode
from mlnb.node.data.asking import attribute, has_attribute


def is_from_session(function: types.FunctionType) -> bool:
    """Whether a function was defined in the session, or in a file that ``%run`` ran (whose globals lose their name)."""
    return bool(function.__globals__.get("__name__", "__main__") == "__main__")


def is_generated(function: types.FunctionType) -> bool:
    """Whether a library has written a function's source, as the methods of a dataclass."""
    filename = function.__code__.co_filename
    return filename.startswith("<") and not filename.startswith(("<ipython-input-", "<cell "))


def methods(cls: type) -> Iterator[types.FunctionType]:
    """The functions in a class's own attributes, unwrapped."""
    for value in vars(cls).values():
        function = unwrap(value)
        if function is not None:
            yield from wrapped_functions(function)


def unwrap(value: Any) -> types.FunctionType | None:
    """The function in a class attribute, such as a static method or a property; ``None`` without one."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return value if isinstance(value, types.FunctionType) else None


def wrapped_functions(value: Any) -> Iterator[types.FunctionType]:
    """The Python functions in a decorated function: itself, what it wraps and what its closure holds."""
    queue: deque[tuple[Any, int]] = deque([(value, 0)])
    visited = set()
    while queue:
        item, depth = queue.popleft()
        if id(item) in visited or depth > 5:
            continue
        visited.add(id(item))
        if isinstance(item, types.FunctionType):
            yield item
            queue.extend((content, depth + 1) for _, content in closure_items(item))
        if isinstance(item, (type, types.ModuleType)):
            continue
        if callable(item) and not isinstance(item, types.FunctionType):  # an object that a library made of it
            held = dict(attribute(item, "__dict__", {}))
            queue.extend((part, depth + 1) for part in held.values() if isinstance(part, types.FunctionType))
        for name in ("__wrapped__", "__func__", "func", "fget", "py_func", "fn", "callback", "_fun"):
            inner = attribute(item, name, None) if callable(item) or name == "fget" else None
            if inner is not None:
                queue.append((inner, depth + 1))


def wrapped_classes(value: Any) -> Iterator[type]:
    """A class, and the class that its decorator wrapped."""
    if isinstance(value, type):
        yield value
        inner = attribute(value, "__wrapped__", None)
        if isinstance(inner, type):
            yield inner


def registered_implementations(value: Any) -> list[tuple[type, Any]]:
    """The types for which ``value`` has an implementation of its own, if ``functools.singledispatch`` has made it."""
    registry = attribute(value, "registry", None)
    if not isinstance(registry, types.MappingProxyType) or not has_attribute(value, "dispatch"):
        return []
    return [(kind, function) for kind, function in registry.items() if kind is not object]


def virtual_subclasses(value: Any) -> list[type]:
    """The classes that were registered as subclasses of an abstract class: ``Base.register(Other)``."""
    dump = getattr(abc, "_get_dump", None)  # CPython's own way to look at it
    if not isinstance(value, abc.ABCMeta) or dump is None:
        return []
    registered = (reference() for reference in dump(value)[0])
    return sorted((kind for kind in registered if kind is not None), key=lambda kind: kind.__qualname__)


def function_created_by(source: SourceNode, value: Any) -> types.FunctionType | None:
    """The function in ``value`` that a ``def`` statement created; ``None`` without one."""
    name = getattr(source.node, "name", None)
    for function in wrapped_functions(value):
        if function.__code__.co_name == name and defines(source, function.__code__):
            return function
    return None


def class_flags(cls: type) -> int:
    """The ``from __future__`` flags that a class's methods were compiled with."""
    return next((flags_of(method.__code__) for method in methods(cls)), 0)


def closure_variables(value: types.FunctionType | type) -> dict[str, Any]:
    """The variables of enclosing functions that a function, or a class's methods, use, with their values."""
    functions = methods(value) if isinstance(value, type) else [value]
    return {name: content for function in functions for name, content in closure_items(function)}


def closure_cells(value: types.FunctionType | type, variable: str) -> Iterator[types.CellType]:
    """The closure cells that hold ``variable`` for a function, or for a class's methods."""
    for function in methods(value) if isinstance(value, type) else [value]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == variable:
                yield cell


def closure_cell_expression(name: str, value: types.FunctionType | type, variable: str) -> str:
    """An expression for the contents of the closure cell that holds ``variable`` of the function or class ``name``."""
    if isinstance(value, type):
        for method in methods(value):
            if variable in method.__code__.co_freevars:
                index = method.__code__.co_freevars.index(variable)
                attribute = vars(value).get(method.__name__)
                inner = ".fget" if isinstance(attribute, property) else ""
                return f"{name}.{method.__name__}{inner}.__closure__[{index}].cell_contents"
        raise LookupError(variable)
    return f"{name}.__closure__[{value.__code__.co_freevars.index(variable)}].cell_contents"


def is_type_hint(value: Any) -> bool:
    """Whether a value is for annotations: a type variable, a generic alias and the like."""
    return type(value).__module__ == "typing" or isinstance(value, (typing.TypeVar, types.GenericAlias))
