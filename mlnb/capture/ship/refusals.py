"""What can't go to another machine, and what to do instead."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import functools
import io
import mmap
import socket
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_BUILTIN_ITERATORS: tuple[type, ...] = (
    type(iter([])), type(iter(())), type(iter({})), type(iter(set())), type(iter("")), type(iter(b"")),
    type(iter(range(0))), type(iter({}.items())), type(iter({}.values())), type(reversed([])),
    map, filter, zip, enumerate,
)  # fmt: skip

_OPEN_ANEW = "open it inside the cell"
_MAKE_ANEW = "make it inside the cell"

_KINDS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (
        lambda v: isinstance(v, io.IOBase) and not isinstance(v, (io.BytesIO, io.StringIO)),
        "an open file",
        _OPEN_ANEW,
    ),
    (lambda v: isinstance(v, mmap.mmap), "a mapped file", _OPEN_ANEW),
    (lambda v: isinstance(v, (types.GeneratorType, types.AsyncGeneratorType)), "a generator", _MAKE_ANEW),
    (lambda v: isinstance(v, _BUILTIN_ITERATORS), "an iterator", "make it inside the cell, or keep a list"),
    (lambda v: type(v).__module__ == "itertools", "an iterator", "make it inside the cell, or keep a list"),
    (lambda v: isinstance(v, (_thread.LockType, type(threading.RLock()))), "a lock", _MAKE_ANEW),
    (
        lambda v: isinstance(v, (threading.Condition, threading.Event, threading.Semaphore, threading.Barrier)),
        "a lock",
        _MAKE_ANEW,
    ),
    (lambda v: isinstance(v, threading.Thread), "a thread", "start it inside the cell"),
    (lambda v: isinstance(v, concurrent.futures.Executor), "a pool of workers", _MAKE_ANEW),
    (
        lambda v: isinstance(v, concurrent.futures.Future),
        "a result to come",
        "wait for it first and keep its result",
    ),
    (lambda v: isinstance(v, asyncio.AbstractEventLoop), "an event loop", _MAKE_ANEW),
    (lambda v: isinstance(v, asyncio.Future), "an asyncio task", "await it first and keep its result"),
    (lambda v: isinstance(v, types.CoroutineType), "a coroutine", "await it first and keep its result"),
    (lambda v: isinstance(v, socket.socket), "a socket", _OPEN_ANEW),
    (lambda v: isinstance(v, (sqlite3.Connection, sqlite3.Cursor)), "a database connection", _OPEN_ANEW),
    (lambda v: isinstance(v, subprocess.Popen), "a running process", "start it inside the cell"),
    (lambda v: isinstance(v, (types.FrameType, types.TracebackType)), "a stack frame", "leave it out"),
    (lambda v: isinstance(v, weakref.ref), "a weak reference", "keep the object itself"),
    (lambda v: type(v).__name__ in ("Connection", "Engine", "MongoClient", "Redis"), "a connection", _OPEN_ANEW),
)


def why_not(value: Any) -> tuple[str, str] | None:
    """What kind of thing ``value`` is that can't be shipped, and the way out; ``None`` if it may be."""
    for test, kind, way in _KINDS:
        if test(value):
            return kind, way
    return _torch(value)


def _torch(value: Any) -> tuple[str, str] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, (torch.cuda.Stream, torch.cuda.Event)) or type(value).__name__ == "CUDAGraph":
        return "a CUDA stream, event or graph", _MAKE_ANEW
    iterators = sys.modules.get("torch.utils.data.dataloader")
    if iterators is not None and isinstance(value, iterators._BaseDataLoaderIter):
        return "a loader's iterator", "call iter(loader) inside the cell"
    return None


def locate(value: Any, path: str, ships: Callable[[Any], bool]) -> tuple[str, Any]:
    """Find the innermost thing in ``value`` that keeps it from being shipped.

    Parameters
    ----------
    path
        how a person writes ``value``.
    ships
        whether an object can be shipped, taken alone.

    Returns
    -------
    str, object
        how a person writes the thing, as ``cfg['lock']``, and the thing.
    """
    seen: set[int] = set()
    while id(value) not in seen and why_not(value) is None:
        seen.add(id(value))
        for part, inner in _parts(value):
            if id(inner) not in seen and not ships(inner):
                path, value = path + part, inner
                break
        else:
            break
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What ``value`` holds, and how a person writes that after the name of ``value``."""
    yield from _elements(value)
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _variables(value)
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    if not isinstance(value, type):
        yield from _attributes(value)


def _elements(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{…}", inner) for inner in value)


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" (its variable {name})", cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from ((f".{name}", inner) for name, inner in attributes.items())
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)
