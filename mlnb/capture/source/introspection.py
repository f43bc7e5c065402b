"""Looking into live functions and classes: what they wrap, close over and consist of."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from mlnb.capture.source.history import Found, defines, flags_of


def is_ours(function: types.FunctionType) -> bool:
    """Whether a function was defined in the session, or in a file that ``%run`` ran there (and left nameless)."""
    return bool(function.__globals__.get("__name__", "__main__") == "__main__")


def methods(cls: type) -> Iterator[types.FunctionType]:
    """The functions in a class's own dictionary, out of their wrappings."""
    for value in vars(cls).values():
        function = underlying(value)
        if function is not None:
            yield from functions(function)


def underlying(value: Any) -> types.FunctionType | None:
    """The function in a class's attribute: in a static or class method, a property."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return value if isinstance(value, types.FunctionType) else None


def functions(value: Any) -> Iterator[types.FunctionType]:
    """The Python functions in a decorated function: itself, what it wraps, what it has closed over."""
    queue: deque[tuple[Any, int]] = deque([(value, 0)])
    seen = set()
    while queue:
        item, depth = queue.popleft()
        if id(item) in seen or depth > 5:
            continue
        seen.add(id(item))
        if isinstance(item, types.FunctionType):
            yield item
            for cell in item.__closure__ or ():
                try:
                    queue.append((cell.cell_contents, depth + 1))
                except ValueError:  # not filled yet
                    continue
        if isinstance(item, (type, types.ModuleType)):
            continue
        for attribute in ("__wrapped__", "__func__", "func", "fget", "py_func", "fn", "callback", "_fun"):
            inner = getattr(item, attribute, None) if callable(item) or attribute == "fget" else None
            if inner is not None:
                queue.append((inner, depth + 1))


def classes(value: Any) -> Iterator[type]:
    """The classes that a decorated class may be, or hold."""
    if isinstance(value, type):
        yield value
        inner = getattr(value, "__wrapped__", None)
        if isinstance(inner, type):
            yield inner


def made_by(found: Found, value: Any) -> types.FunctionType | None:
    """The function in ``value`` that the ``def`` statement ``found`` made."""
    name = getattr(found.node, "name", None)
    for function in functions(value):
        if function.__code__.co_name == name and defines(found, function.__code__):
            return function
    return None


def class_flags(cls: type) -> int:
    """The ``from __future__`` flags that a class's methods were compiled with."""
    return next((flags_of(method.__code__) for method in methods(cls)), 0)


def closure(value: types.FunctionType | type) -> dict[str, Any]:
    """The variables that a function, or a class's methods, have from around them."""
    found = {}
    functions = list(methods(value)) if isinstance(value, type) else [value]
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
    return found


def cells(value: types.FunctionType | type, variable: str) -> Iterator[types.CellType]:
    """The cells in which a function, or a class's methods, have ``variable``."""
    for function in methods(value) if isinstance(value, type) else [value]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == variable:
                yield cell


def cell_of(name: str, value: types.FunctionType | type, variable: str) -> str:
    """How a program reaches the cell of ``variable``."""
    if isinstance(value, type):
        for method in methods(value):
            if variable in method.__code__.co_freevars:
                index = method.__code__.co_freevars.index(variable)
                raw = vars(value).get(method.__name__)
                inner = ".fget" if isinstance(raw, property) else ""
                return f"{name}.{method.__name__}{inner}.__closure__[{index}].cell_contents"
        raise LookupError(variable)
    return f"{name}.__closure__[{value.__code__.co_freevars.index(variable)}].cell_contents"
