"""``mlnb.log``: metrics from the training loop to the run directory, without slowing the loop.

The call appends to memory and returns. A thread takes what is there five times a second and appends it to the
rank's metrics file as frames. It never blocks the loop and never raises into it: what can't be kept is counted and
said in the rank's own account.
"""

from __future__ import annotations

import contextlib
import os
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from time import time
from typing import Any

import mlnb
from mlnb.node import frames

INTERVAL = 0.2
"""Seconds between flushes: with the write itself, what a kill -9 can lose stays under 250 ms."""

RESUMED = "mlnb.resumed"
"""Logged once by an attempt that goes on from a checkpoint: the step it goes on from. Readers cut the attempts
before it back to that step."""

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
        self.offset = 0
        self.error: str | None = None
        self._rows: deque[tuple[float, Any, dict[str, Any]]] = deque()
        self._unwritten = b""
        self._file: int | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._calls = 0
        self._dropped: str | None = None
        self._before_flush: list[Callable[[], None]] = []
        self.log = self._make_log()

    def _make_log(self) -> Callable[..., None]:
        append = self._rows.append  # bound once: the call below is all that a training loop pays

        def log(step: int | None = None, **values: Any) -> None:
            for name, value in values.items():
                if type(value) not in _plain:
                    values[name] = _keep(value)
            append((time(), (self.step or None) if step is None else step, values))

        return log

    def put(self, when: float, step: int | None, name: str, value: Any) -> None:
        """Add one value with its own time; without a step, calls are counted."""
        self._rows.append((when, step, {name: value}))

    def before_flush(self, call: Callable[[], None]) -> None:
        """Have ``call`` bring what it holds just before each flush."""
        self._before_flush.append(call)

    def resume(self, step: int) -> None:
        """Count steps on from those of an earlier attempt."""
        self.offset = self.step = step
        self.put(time(), step, RESUMED, step)

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
            self._rows.clear()
            return
        with self._lock:
            for call in self._before_flush:
                call()
            rows = self._rows
            while rows or self._unwritten:
                batch = [rows.popleft() for _ in range(min(len(rows), _BATCH))]
                self._unwritten += self._encode(batch)
                if not self._write(self.path):
                    return

    def _write(self, path: Path) -> bool:
        """Append what waits, whole or not at all (a torn frame would hide those behind it); whether it went."""
        try:
            if self._file is None:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            end = os.fstat(self._file).st_size
            try:
                _write_all(self._file, self._unwritten)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, end)
                raise
            self._unwritten, self.error = b"", self._dropped
        except OSError as error:
            self.error = f"metrics could not be written to {path}: {error.strerror}"
            if len(self._unwritten) > _PATIENCE:
                self._unwritten, self._dropped = b"", f"{self.error}; some are missing"
            return False
        return True

    def _encode(self, batch: list[tuple[float, Any, dict[str, Any]]]) -> bytes:
        if not batch:
            return b""
        times, given, rows = zip(*batch, strict=True)
        steps = _column(given)
        if not all(map(isfinite, steps)):  # no optimizer seen: count the calls
            steps = array("d", [step if isfinite(step) else self._count() for step in steps])
        parts = []
        for start, stop in _alike(rows):
            names = tuple(rows[start])
            columns = [_column([row[name] for row in rows[start:stop]]) for name in names]
            parts.append(frames.encode(names, times[start:stop], steps[start:stop], columns))
        return b"".join(parts)

    def _count(self) -> int:
        self._calls += 1
        return self._calls


def _alike(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Split rows into stretches with the same names (in the same order)."""
    first = list(rows[0])
    if all(map(first.__eq__, map(list, rows))):  # nearly always: no Python code a row
        yield 0, len(rows)
        return
    start = 0
    for index, row in enumerate(rows):
        if list(row) != first:
            yield start, index
            start, first = index, list(row)
    yield start, len(rows)


def _column(values: Sequence[Any]) -> Sequence[float]:
    try:
        return array("d", values)
    except Exception:  # noqa: BLE001 - ``__float__`` of whatever was logged
        return [_number(value) for value in values]


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
    mlnb.__dict__["log"] = current.log  # the script's own `mlnb.log` has no indirection to pay for
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
