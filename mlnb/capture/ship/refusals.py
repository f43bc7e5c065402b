"""Refusals: which values can't be sent to another process, and what to do instead."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import io
import itertools
import mmap
import socket
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mlnb.capture.names.closures import closure_items
from mlnb.node.data.asking import attribute, has_attribute
from mlnb.node.data.kinds import made_by_call, open_files, weak_references

_BUILTIN_ITERATORS: tuple[type, ...] = (
    type(iter([])), type(iter(())), type(iter({})), type(iter(set())), type(iter("")), type(iter(b"")),
    type(iter(range(0))), type(iter({}.items())), type(iter({}.values())), type(reversed([])),
    map, filter, zip, enumerate,
)  # fmt: skip

_OPEN_IN_CELL = "open it inside the cell"
_CREATE_IN_CELL = "create it inside the cell"
_RELEASE = "release it first, or create it inside the cell"
_ITERATOR_ADVICE = "create it inside the cell, or keep a list"
_FUTURE_ADVICE = "wait for it first and keep its result"
_AWAIT_ADVICE = "await it first and keep its result"


class Unshippable(NamedTuple):
    """Why a value can't be sent.

    Attributes
    ----------
    kind
        what the value is, as ``a lock``.
    advice
        what to do instead.
    can_be_made_anew
        whether a new one, made by the same line, is as good in the run.
    """

    kind: str
    advice: str
    can_be_made_anew: bool = False

    def __str__(self) -> str:
        return f"{self.kind}, which can't be sent to another process: {self.advice}."


def _is_iterator(value: Any) -> bool:
    return type(value).__module__ == "itertools" and type(value) is not itertools.count


def _is_own_kind_of_reference(value: Any) -> bool:
    return issubclass(type(value), weakref.ref) and type(value) not in weak_references.REDUCERS


def _instance_of(*types_: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types_)


def _is_open_file(value: Any) -> bool:
    if not isinstance(value, io.IOBase) or isinstance(value, (io.BytesIO, io.StringIO)):
        return False
    return not open_files.can_travel(value)


_CONNECTION_CLASSES = frozenset({"Connection", "Engine", "MongoClient", "Redis"})
_CONNECTION_LIBRARIES = frozenset(
    "MySQLdb asyncpg multiprocessing oracledb psycopg pymongo pymysql pyodbc redis sqlalchemy".split()  # noqa: SIM905
)


def _is_connection(value: Any) -> bool:
    """Whether a value is a connection of a known library; the user's own classes may have such names, too."""
    kind = type(value)
    return kind.__name__ in _CONNECTION_CLASSES and kind.__module__.split(".")[0] in _CONNECTION_LIBRARIES


_UNSHIPPABLE: tuple[tuple[Callable[[Any], bool], Unshippable], ...] = (
    (_is_open_file, Unshippable("an open file", _OPEN_IN_CELL, True)),
    (_instance_of(mmap.mmap), Unshippable("a mapped file", _OPEN_IN_CELL)),
    (_instance_of(types.GeneratorType, types.AsyncGeneratorType), Unshippable("a generator", _CREATE_IN_CELL)),
    (_instance_of(*_BUILTIN_ITERATORS), Unshippable("an iterator", _ITERATOR_ADVICE)),
    (_is_iterator, Unshippable("an iterator", _ITERATOR_ADVICE)),
    (made_by_call.is_held, Unshippable("a lock that is held", _RELEASE)),
    (_instance_of(threading.Barrier), Unshippable("a barrier", _CREATE_IN_CELL, True)),
    (_instance_of(threading.Thread), Unshippable("a thread", "start it inside the cell")),
    (_instance_of(concurrent.futures.Executor), Unshippable("a pool of workers", _CREATE_IN_CELL, True)),
    (_instance_of(concurrent.futures.Future), Unshippable("a future", _FUTURE_ADVICE)),
    (_instance_of(asyncio.AbstractEventLoop), Unshippable("an event loop", _CREATE_IN_CELL)),
    (_instance_of(asyncio.Future), Unshippable("an asyncio task", _AWAIT_ADVICE)),
    (_instance_of(types.CoroutineType), Unshippable("a coroutine", _AWAIT_ADVICE)),
    (_instance_of(socket.socket), Unshippable("a socket", _OPEN_IN_CELL)),
    (_instance_of(sqlite3.Connection, sqlite3.Cursor), Unshippable("a database connection", _OPEN_IN_CELL, True)),
    (_instance_of(subprocess.Popen), Unshippable("a running process", "start it inside the cell")),
    (_instance_of(types.FrameType, types.TracebackType), Unshippable("a stack frame", "leave it out")),
    (_is_own_kind_of_reference, Unshippable("a weak reference of its own kind", "keep the object itself")),
    (_is_connection, Unshippable("a connection", _OPEN_IN_CELL, True)),
)


def unshippable_reason(value: Any) -> Unshippable | None:
    """Why ``value`` can't be sent to another process; ``None`` if it may be possible."""
    for test, reason in _UNSHIPPABLE:
        if test(value):
            return reason
    return _torch_reason(value)


def _torch_reason(value: Any) -> Unshippable | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, (torch.cuda.Stream, torch.cuda.Event)) or type(value).__name__ == "CUDAGraph":
        return Unshippable("a CUDA stream, event or graph", _CREATE_IN_CELL, type(value).__name__ != "CUDAGraph")
    dataloader = sys.modules.get("torch.utils.data.dataloader")
    if dataloader is not None and isinstance(value, dataloader._BaseDataLoaderIter):
        return Unshippable("a loader's iterator", "call iter(loader) inside the cell")
    return None


def is_computed(value: Any) -> bool:
    """Whether ``value`` is a tensor with a graph. A single number counts as a result that is only looked at.

    If a backward pass arrives there in the run nevertheless, that is an error (:mod:`mlnb.node.data.kinds.tensors`).
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.grad_fn is not None and value.numel() > 1


def locate(value: Any, path: str, ships: Callable[[Any], bool]) -> tuple[str, Any]:
    """Find the innermost object in ``value`` that can't be sent.

    Parameters
    ----------
    path
        the expression for ``value``.
    ships
        whether an object, taken alone, can be sent.

    Returns
    -------
    str, object
        the expression for the innermost object, as ``cfg['lock']``, and the object.
    """
    return list(chain(value, path, ships))[-1]


def chain(value: Any, path: str, ships: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """The objects that :func:`locate` goes through, ``value`` first, each after the expression for it."""
    visited: set[int] = set()
    yield path, value
    while id(value) not in visited and unshippable_reason(value) is None:
        visited.add(id(value))
        for suffix, part in _parts(value):
            if id(part) not in visited and not ships(part):
                path, value = path + suffix, part
                yield path, value
                break
        else:
            break


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of ``value``, each after the suffix that leads from the expression for ``value`` to it."""
    yield from _elements(value)
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from ((f" (its variable {name})", content) for name, content in closure_items(value))
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    if not isinstance(value, type):
        yield from _attributes(value)


def _elements(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{…}", part) for part in value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    attributes = attribute(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from ((f".{name}", part) for name, part in attributes.items())
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and has_attribute(value, name):
                yield f".{name}", attribute(value, name)
