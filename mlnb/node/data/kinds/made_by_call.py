"""Objects of Python's own that pickle refuses, and that one call makes again: locks, counters, context variables.

A lock travels while nobody holds it, as a new one there. Conditions, events, semaphores and queues consist of locks.
Streams refer to the functions here by name.
"""

from __future__ import annotations

import _thread
import ast
import contextlib
import contextvars
import itertools
import threading
from collections.abc import Callable
from typing import Any

LOCKS = (_thread.LockType, type(threading.RLock()))
"""The types of locks."""


def is_held(lock: Any) -> bool:
    """Whether somebody holds a lock, a permit of a semaphore that has none left, or waits for a condition."""
    if isinstance(lock, LOCKS):
        return not repr(lock).startswith("<unlocked")
    if isinstance(lock, threading.Semaphore):
        return bool(vars(lock)["_value"] < vars(lock).get("_initial_value", 1))
    return isinstance(lock, threading.Condition) and bool(vars(lock)["_waiters"])


def make_lock() -> Any:
    """Return a lock that nobody holds."""
    return threading.Lock()


def make_reentrant_lock() -> Any:
    """Return a lock that nobody holds, and that one thread may acquire several times."""
    return threading.RLock()


def make_context_variable(name: str, *default: Any) -> contextvars.ContextVar[Any]:
    """Return a context variable without a value."""
    return contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)


def set_context_variable(variable: contextvars.ContextVar[Any], value: tuple[Any]) -> None:
    """Set a variable in the current context."""
    variable.set(value[0])


def _lock(lock: Any) -> tuple[Any, ...]:
    if is_held(lock):
        raise TypeError("a lock that is held can't be sent to another process")
    return make_lock if isinstance(lock, _thread.LockType) else make_reentrant_lock, ()


def _counter(counter: Any) -> tuple[Any, ...]:
    try:
        arguments = ast.literal_eval(repr(counter).removeprefix("count"))
    except (SyntaxError, ValueError):
        raise TypeError("a counter of other than numbers can't be sent to another process") from None
    return itertools.count, arguments if isinstance(arguments, tuple) else (arguments,)


def _context_variable(variable: contextvars.ContextVar[Any]) -> tuple[Any, ...]:
    default: tuple[Any, ...] = ()
    value: tuple[Any] | None = None
    with contextlib.suppress(LookupError):
        default = (contextvars.Context().run(variable.get),)
    if variable in contextvars.copy_context():
        value = (variable.get(),)
    return make_context_variable, (variable.name, *default), value, None, None, set_context_variable


REDUCERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(LOCKS, _lock),
    itertools.count: _counter,
    contextvars.ContextVar: _context_variable,
}
"""How a pickler takes them apart, by their exact type."""

_STAY = {
    make_lock: _thread.LockType,
    make_reentrant_lock: LOCKS[1],
    make_context_variable: contextvars.ContextVar,
}


def stays(live: Any, function: Callable[..., Any]) -> bool:
    """Whether ``live``, an object of the session that ``function`` would make again, stays the object that it is."""
    return _STAY.get(function) is type(live)
