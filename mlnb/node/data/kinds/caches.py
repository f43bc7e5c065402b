"""Caches: what a function of ``functools.lru_cache`` has cached, and how another one gets it.

Cached values are state, and may be what all share that call the function: ``get_model()``. Python has no way to read or
write them. The garbage collector knows what a cache refers to; an entry is made by a call whose function returns it.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

KIND: type = functools._lru_cache_wrapper
"""The type of functions with a cache."""

Entry = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Positional and keyword arguments of a call, and what it returned."""


class Entries(list[Entry]):
    """What a function has cached, the least recently used first. Streams refer to this by name."""


def cached_in(function: Any) -> tuple[str, Any]:
    """The function with a cache that decorators have wrapped, after what leads to it; ``None`` if there is none."""
    path = ""
    while function is not None and not isinstance(function, KIND) and len(path) < 100:
        function = getattr(function, "__wrapped__", None)
        path += ".__wrapped__"
    return path, function


def of_class(cls: type) -> Iterator[tuple[str, Any]]:
    """The functions with a cache that attributes of a class itself give, by their names."""
    return ((name, inner) for name, value, inner in _methods(cls) if not isinstance(value, classmethod))


def caches_of(cls: type) -> Iterator[tuple[str, Any]]:
    """The methods of a class that have a cache, each after the expression for it below the class."""
    for name, value, inner in _methods(cls):
        yield f".__dict__[{name!r}]{'' if inner is value else '.__func__'}", inner


def _methods(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """The methods of a class that have a cache: name, what the class has, and the function in it."""
    for name, value in list(vars(cls).items()):
        inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(inner, KIND):
            yield name, value, inner


def entries(function: Any) -> Entries:
    """What ``function`` has cached; empty if that can't be seen in this version of Python."""
    count = function.cache_info().currsize
    found = _look(function) if count else None
    if found is None:
        return Entries()
    cache, held, mark = found
    is_typed = function.cache_parameters()["typed"]
    made = Entries()
    for key, result in _items(cache, held, function):
        parts = key if type(key) is tuple else (key,)
        position = next((index for index, part in enumerate(parts) if part is mark), None)
        keywords: dict[str, Any] = {}
        positional = parts
        if position is not None:
            rest = parts[position + 1 :]
            if is_typed:
                rest = rest[: (len(rest) - position) * 2 // 3]
            keywords = dict(zip(rest[::2], rest[1::2], strict=True))
            positional = parts[:position]
        elif is_typed:
            positional = parts[: len(parts) // 2]
        made.append((positional, keywords, result))
    return made


def reduce_cached(function: Any) -> Any:
    """Reduce a function with a cache for pickle; ``NotImplemented`` for one that another process finds by its name."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is function:
        return NotImplemented
    inner = next((item for item in gc.get_referents(function) if item is function.__wrapped__), None)
    parameters = function.cache_parameters()
    arguments = inner, parameters["maxsize"], parameters["typed"]
    return NotImplemented if inner is None else (make, arguments, entries(function), None, None, fill)


def make(inner: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Give a function a cache. Streams refer to this by name."""
    return functools.lru_cache(maxsize, typed)(inner)


def _look(function: Any) -> tuple[dict[Any, Any], list[Any], Any] | None:
    """The dictionary of a cache, what the cache refers to, and what stands between the arguments in a key."""
    held = gc.get_referents(function)
    info = function.cache_info()
    marks = [item for item in held if type(item) is object]
    for item in held:
        if type(item) is dict and item is not vars(function) and len(item) == info.currsize:
            is_linked = all(type(link).__name__ == "_lru_list_elem" for link in item.values())
            if marks and (info.maxsize is None or is_linked):
                return item, held, marks[-1]
    return None


def _items(cache: dict[Any, Any], held: list[Any], function: Any) -> Iterator[tuple[Any, Any]]:
    """The keys and results of a cache."""
    if function.cache_info().maxsize is None:
        yield from list(cache.items())
        return
    link = type(next(iter(cache.values())))
    items = held[: next(index for index, item in enumerate(held) if item is cache)]
    if items and items[0] is type(function):
        del items[0]
    step = 3 if len(items) == 3 * len(cache) and items[2] is link else 2
    if len(items) != step * len(cache):
        return
    for start in range(0, len(items), step):
        yield items[start], items[start + 1]


def fill(function: Any, made: Entries) -> None:
    """Have ``function`` cache exactly ``made``. Scripts refer to this by name."""
    if same(entries(function), made):
        return
    function.cache_clear()
    inner = next((item for item in gc.get_referents(function) if isinstance(item, FunctionType)), None)
    if inner is None or inner is vars(function).get("cache_parameters"):
        return
    code = inner.__code__
    try:
        for positional, keywords, result in made:
            inner.__code__ = _returning(result, code.co_freevars)
            function(*positional, **keywords)
    finally:
        inner.__code__ = code


def _returning(value: Any, free: tuple[str, ...]) -> Any:
    """The code of a function that returns ``value`` whatever it is called with."""
    template: Callable[..., str] = lambda *_args, **_keywords: "mlnb"  # noqa: E731
    code = template.__code__
    constants = tuple(value if constant == "mlnb" else constant for constant in code.co_consts)
    return code.replace(co_consts=constants, co_freevars=free)


def same(first: Any, second: Any) -> bool:
    """Whether two caches hold the same objects for the same arguments."""
    if type(first) is not Entries or type(second) is not Entries or len(first) != len(second):
        return False
    return all(
        _equal(one[0], other[0]) and _equal(tuple(one[1].items()), tuple(other[1].items())) and _is(one[2], other[2])
        for one, other in zip(first, second, strict=True)
    )


def _is(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and isinstance(one, (int, float, str, bytes)) and one == other)


def _equal(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - the objects' own code
        return False
