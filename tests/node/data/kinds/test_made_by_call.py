"""Locks that nobody holds, counters and context variables travel, and stay what they are in the session."""

from __future__ import annotations

import contextvars
import itertools
import logging
import queue
import threading
from typing import Any

import pytest

from tests.api.results.returning import Sent


class Guarded:
    """An object with locks of several kinds."""

    def __init__(self) -> None:
        self.lock, self.reentrant, self.steps = threading.Lock(), threading.RLock(), 0
        self.event, self.permits, self.changed = threading.Event(), threading.BoundedSemaphore(2), threading.Condition()

    def step(self) -> None:
        """Count, with all locks held."""
        with self.lock, self.reentrant, self.permits, self.changed:
            self.steps += 1


def test_an_object_with_locks():
    guarded = Guarded()
    locks = dict(vars(guarded))
    sent = Sent(guarded=guarded, lock=guarded.lock)
    sent.guarded.step()
    sent.guarded.event.set()
    assert sent.lock is sent.guarded.lock
    back = sent.back()
    assert back["guarded"] is guarded
    assert back["lock"] is guarded.lock
    assert (guarded.steps, guarded.event.is_set()) == (1, True)
    assert all(vars(guarded)[name] is lock for name, lock in locks.items() if name != "steps")
    guarded.step()


def test_the_lock_of_the_session_may_be_held_when_its_object_comes_back():
    guarded = Guarded()
    sent, lock = Sent(guarded=guarded), guarded.lock
    sent.guarded.step()
    with lock:
        sent.back()
        assert guarded.lock is lock
    guarded.step()
    assert guarded.steps == 2


def test_a_queue_with_items():
    tasks: queue.Queue[int] = queue.Queue()
    tasks.put(1)
    sent = Sent(tasks=tasks)
    assert sent.tasks.get() == 1
    sent.tasks.put(2)
    assert sent.back()["tasks"] is tasks
    assert tasks.get(timeout=1) == 2


def test_a_handler_of_log_records():
    handler = Kept()
    sent = Sent(handler=handler)
    sent.handler.handle(logging.makeLogRecord({"msg": "a"}))
    sent.back()
    handler.handle(logging.makeLogRecord({"msg": "b"}))
    assert handler.texts == ["a", "b"]


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.texts.append(record.getMessage())


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_is_held_is_not_sent(kind: Any):
    lock = kind()
    with lock, pytest.raises(TypeError, match="held"):
        Sent(lock=lock)


@pytest.mark.parametrize("start", [(), (5,), (0.5, 0.25)])
def test_a_counter_goes_on(start: tuple[Any, ...]):
    counter = itertools.count(*start)
    first = next(counter)
    sent = Sent(counter=counter, unused=itertools.count(1))
    second = next(sent.counter)
    back = sent.back()["counter"]
    assert next(back) - second == second - first


def test_context_variables():
    default: list[int] = []
    named, unset = contextvars.ContextVar("named", default=default), contextvars.ContextVar[int]("unset")
    named.set([1])
    sent = Sent(named=named, unset=unset)
    assert sent.named.get() == [1]
    assert unset.get(3) == 3
    sent.named.set([2])
    sent.unset.set(7)
    back = sent.back()
    assert back["named"] is named
    assert back["unset"] is unset
    assert (named.get(), unset.get()) == ([2], 7)
