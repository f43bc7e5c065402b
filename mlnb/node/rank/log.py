"""``mlnb.log``: metrics from the training loop to the run directory, without slowing the loop.

The call appends to memory and returns. A thread takes what is there five times a second and appends it to the
rank's metrics file as frames. It never blocks the loop and never raises into it: what can't be kept is counted and
said in the rank's own account.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

from mlnb.node.rank import frames

INTERVAL = 0.24
"""Seconds between flushes: with the write itself, what a kill -9 can lose stays under 250 ms."""

RESUMED = "mlnb.resumed"
"""Logged once by an attempt that goes on from a checkpoint: the step it goes on from, at the time of the checkpoint.
Readers cut the attempts before it back to that step and time."""

PROGRESS = "mlnb.progress"
"""Logged by ``mlnb.epochs``: which share of all there is to do is done. Readers tell from it when a run may end."""

_BATCH = 65536
_PATIENCE = 64 * 1024 * 1024
"""Bytes that wait for a disk that is full; more are dropped, and said."""

_plain = frozenset({float, int, bool})


class Metrics:
    """The metrics of one process: rows wait in memory until they are flushed.

    Parameters
    ----------
    path
        the file frames go to; ``None`` keeps nothing (a process that isn't a rank).
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.step = 0
        self.error: str | None = None
        self._rows: dict[tuple[str, ...], list[Any]] = {}  # names → time, step, values…, time, step, values…
        self._extends: dict[tuple[str, ...], Callable[[tuple[Any, ...]], None]] = {}
        self._opening = threading.Lock()
        self._unwritten = b""
        self._file: int | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._calls = 0
        self._size = 0
        self._dropped: str | None = None
        self._before_flush: list[Callable[[], None]] = []
        self.log = self._make_log()

    def _make_log(self) -> Callable[..., None]:
        """The call itself: one atomic ``extend`` of a flat list, which is all that a training loop pays."""
        extends = self._extends

        def log(step: int | None = None, **values: Any) -> None:
            row = values.values()
            for value in row:
                if type(value) not in _plain:
                    values = {name: _keep(value) for name, value in values.items()}
                    row = values.values()
                    break
            names = tuple(values)
            extend = extends.get(names) or self._open(names)
            if type(step) is not int:
                step = (self.step or self._count()) if step is None else self._given(step)
            extend((time(), step, *row))

        return log

    def _open(self, names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], None]:
        with self._opening:
            if names not in self._extends:
                rows: list[Any] = []
                self._rows[names] = rows
                self._extends[names] = rows.extend
            return self._extends[names]

    def _given(self, step: Any) -> Any:
        """A step that isn't an ``int``: as a number if it is one, else counted."""
        number = _number(step)
        return number if math.isfinite(number) else self._count()

    def _count(self) -> int:
        """The step where no optimizer was seen: the number of calls."""
        self._calls += 1
        return self._calls

    def put(self, when: float, step: int | None, name: str, value: Any) -> None:
        """Add one value with its own time; without a step, calls are counted."""
        self.adder(name)(when, step, value)

    def adder(self, name: str) -> Callable[[float, int | None, Any], None]:
        """:meth:`put` for one name, for those who call it in each step."""
        extends, names = self._extends, (name,)

        def add(when: float, step: int | None, value: Any) -> None:
            extend = extends.get(names) or self._open(names)
            extend((when, self._count() if step is None else step, value))

        return add

    def before_flush(self, call: Callable[[], None]) -> None:
        """Have ``call`` bring what it holds just before each flush."""
        self._before_flush.append(call)

    def resume(self, step: int, when: float) -> None:
        """Count steps on from those of an earlier attempt, whose checkpoint was made at ``when``."""
        self.step = step
        self.put(when, step, RESUMED, step)

    def progress(self, share: float) -> None:
        """Say how much of all there is to do is done."""
        self.put(time(), self.step, PROGRESS, share)

    def forget(self) -> None:
        """Keep nothing from now on: a process forked from this one, a loader's worker say, owns no file."""
        self.path = None
        self._rows.clear()
        self._extends.clear()
        self._open = lambda names: _nowhere  # type: ignore[method-assign]  # noqa: ARG005

    def start(self) -> None:
        """Flush from a thread from now on."""
        threading.Thread(target=self._run, name="mlnb-metrics", daemon=True).start()

    def _run(self) -> None:
        parent = os.getppid()
        wait = threading.Event().wait
        pause = 0.01  # a person waits for the first values; later ones come five times a second
        while True:
            wait(pause)
            pause = min(INTERVAL, pause * 1.3)
            self.flush()
            if os.getppid() != parent:  # the node program died, and with it whoever would report this rank
                self.flush()
                os.killpg(os.getpgrp(), 9)

    def flush(self) -> None:
        """Append all that waits to the file; errors are kept in ``error``, not raised."""
        if self.path is None or os.getpid() != self._pid:  # a forked child (a loader's worker) owns no file
            for rows in self._rows.values():
                rows.clear()
            return
        with self._lock:
            for call in self._before_flush:
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - what is logged by itself must not cost what was logged
                    self._dropped = self.error = f"what is measured beside the metrics is missing: {error!r}"
            self._unwritten += self._take()
            if self._unwritten:
                self._write(self.path)

    def _write(self, path: Path) -> None:
        """Append what waits, whole or not at all (a torn frame would hide those behind it)."""
        try:
            if self._file is None:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._file).st_size
            try:
                _write_all(self._file, self._unwritten)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                raise
            self._size += len(self._unwritten)
            self._unwritten, self.error = b"", self._dropped
        except OSError as error:
            self.error = f"metrics could not be written to {path}: {error.strerror}"
            if len(self._unwritten) > _PATIENCE:
                self._unwritten, self._dropped = b"", f"{self.error}; some are missing"

    def _take(self) -> bytes:
        """All rows that wait, as frames; they wait no more."""
        parts = []
        for names, rows in list(self._rows.items()):
            width = 2 + len(names)
            while rows:
                chunk = rows[: width * _BATCH]  # each of these two is atomic, and extend adds whole rows
                del rows[: width * _BATCH]
                parts.append(frames.encode_rows(names, _doubles(chunk)))
        return b"".join(parts)


def _nowhere(_: tuple[Any, ...]) -> None:
    """Where rows go that nobody keeps."""


def _doubles(values: list[Any]) -> array[float]:
    try:
        return array("d", values)
    except Exception:  # noqa: BLE001 - tensors, or whatever was logged
        return array("d", [_number(value) for value in values])


def _keep(value: Any) -> Any:
    """A value as of now: the loop may change it in place before the thread reads it.

    On a GPU that is a copy on the device; reading it here would make the loop wait for the device.
    """
    try:
        return value.detach().clone() if getattr(value, "is_cuda", False) else _number(value.item())
    except Exception:  # noqa: BLE001 - no tensor, or a strange one
        return _number(value)


def _number(value: Any) -> float:
    """``value`` as a double; what is no number becomes NaN (the loop must not pay for a typo)."""
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - ``__float__`` of whatever was logged
        return float("nan")


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


current = Metrics()
"""The metrics of this process. A rank replaces it at its start (:func:`begin`)."""


def begin(path: Path) -> Metrics:
    """Make this process a rank that writes its metrics to ``path``."""
    global current
    current = Metrics(path)
    current.start()
    os.register_at_fork(after_in_child=current.forget)
    sys.modules["mlnb"].__dict__["log"] = current.log  # the script's own `mlnb.log` has no indirection to pay for
    return current


def log(step: int | None = None, **values: Any) -> None:
    """Log metrics: ``mlnb.log(acc=0.97, lr=1e-3)``.

    Parameters
    ----------
    step
        the training step; by default the number of optimizer steps so far.
    values
        numbers or tensors of one element. NaN and infinity are kept as such.

    Notes
    -----
    Costs about a microsecond, never blocks and never raises. Outside a run it does nothing.
    """
    current.log(step, **values)
