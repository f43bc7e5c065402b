"""``mlnb.log``: writes metrics of the training loop to the run directory, without slowing the loop.

The call appends to a list in memory and returns. A thread appends the rows to the rank's metrics file, as frames, about
four times a second. Logging never blocks the loop and never raises: errors are kept in ``Metrics.error`` and become a
note of the run.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from array import array
from collections.abc import Callable, Collection
from pathlib import Path
from time import monotonic, time
from typing import Any

from mlnb.node.rank import frames

INTERVAL = 0.24
"""Seconds between flushes: with the write itself, what a kill -9 can lose stays under 250 ms."""

RESUMED = "mlnb.resumed"
"""Logged once by an attempt that resumes: the step of its checkpoint, at the time of the checkpoint.

Readers drop what earlier attempts logged after that step and time.
"""

PROGRESS = "mlnb.progress"
"""Logged by ``mlnb.epochs``: the fraction of the epochs that is done. Readers estimate from it when the run ends."""

EPOCHS = "mlnb.epochs"
"""Logged by ``mlnb.epochs`` when it begins: how many epochs there are."""

PASSES = "mlnb.pass"
"""Logged when a pass over the data of the training loader begins: its number, from 0."""

_ROWS_PER_FRAME = 65536
_MAX_UNWRITTEN = 64 * 1024 * 1024
"""Bytes that are kept while the disk is full; beyond that they are dropped, with an error."""

_HOLD = 5.0
"""Seconds for which automatic values wait for the script's own of the same name."""

_NUMBER_TYPES = frozenset({float, int, bool})


class Metrics:
    """The metrics of one process, in memory until they are flushed to a file.

    Parameters
    ----------
    path
        the metrics file; ``None`` discards everything (in a process that isn't a rank).
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.step = 0
        self.error: str | None = None
        self._rows: dict[tuple[str, ...], list[Any]] = {}  # names → time, step, values…, time, step, values…
        self._automatic: dict[str, list[Any]] = {}  # the same for values that mlnb logs by itself, by name
        self._own: set[str] = set()  # names that the script logs; mlnb's own values of these are left out
        self._expected: frozenset[str] = frozenset()
        self._hold_until = 0.0
        self._refused: dict[str, str] = {}
        self._discards = False
        self._nan_since: dict[str, float] = {}  # the step since which a loss has been NaN, by name
        self._appenders: dict[tuple[str, ...], Callable[[tuple[Any, ...]], None]] = {}
        self._series_lock = threading.Lock()
        self._unwritten = b""
        self._file: int | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._calls = 0
        self._size = 0
        self._dropped: str | None = None
        self._before_flush: list[Callable[[], None]] = []
        self.log = self._make_log()
        if path is None:
            self.discard()

    def _make_log(self) -> Callable[..., None]:
        """Make the function that scripts call as ``mlnb.log``. All it costs them is one atomic ``extend`` of a list."""
        appenders = self._appenders

        def log(step: int | None = None, **values: Any) -> None:
            row = values.values()
            for value in row:
                if type(value) not in _NUMBER_TYPES:
                    values = self._numbers(values)
                    if not values:
                        return
                    row = values.values()
                    break
            names = tuple(values)
            extend = appenders.get(names) or self._add_series(names)
            if type(step) is not int:
                step = (self.step or self._next_call()) if step is None else self._valid_step(step)
            extend((time(), step, *row))

        return log

    def _numbers(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values that are numbers, as they are now; the others are left out and noted."""
        numbers = {name: _snapshot(value) for name, value in values.items()}
        for name in [name for name, number in numbers.items() if number is None]:
            del numbers[name]
            self._refused.setdefault(name, _kind(values[name]))
        return numbers

    def expect(self, names: Collection[str]) -> None:
        """Expect that the script logs ``names``: values that mlnb logs by itself wait a few seconds for the first."""
        self._expected, self._hold_until = frozenset(names), monotonic() + _HOLD

    def notes(self) -> list[str]:
        """What to tell the user at the end."""
        notes = [self.error] if self.error else []
        if self._refused:
            what = ", ".join(f"{name} ({kind})" for name, kind in self._refused.items())
            notes.append(f"mlnb.log takes numbers; not logged: {what}")
        return notes

    @property
    def nan_since(self) -> dict[str, float]:
        """The losses whose newest value is NaN, each with the step since which it has been."""
        return dict(self._nan_since)

    def _add_series(self, names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], None]:
        with self._series_lock:
            if names not in self._appenders:
                self._own |= set(names)
                for name in names:
                    self._automatic.pop(name, None)
                rows: list[Any] = []
                self._rows[names] = rows
                self._appenders[names] = rows.extend
            return self._appenders[names]

    def _valid_step(self, step: Any) -> Any:
        """Convert a step that isn't an ``int``; what isn't a finite number is replaced by the next count."""
        number = _number(step)
        return number if math.isfinite(number) else self._next_call()

    def _next_call(self) -> int:
        """Return the step to use while no optimizer has stepped: the number of calls so far."""
        self._calls += 1
        return self._calls

    def add(self, when: float, step: int | None, name: str, value: Any) -> None:
        """Add one value at a given time (seconds since the epoch); without a step, calls are counted."""
        self.adder(name)(when, step, value)

    def adder(self, name: str) -> Callable[[float, int | None, Any], None]:
        """Return :meth:`add` for one name, to be called in each step. What the script logs itself takes its place."""
        own, automatic = self._own, self._automatic

        def add(when: float, step: int | None, value: Any) -> None:
            if name not in own and not self._discards:
                rows = automatic.get(name)
                if rows is None:
                    rows = automatic.setdefault(name, [])
                rows.extend((when, self._next_call() if step is None else step, value))

        return add

    def before_flush(self, call: Callable[[], None]) -> None:
        """Call ``call`` before each flush, so that it can add values."""
        self._before_flush.append(call)

    def resume(self, step: int, when: float) -> None:
        """Continue to count at ``step``, from a checkpoint made at ``when`` (seconds since the epoch)."""
        self.step = step
        self.add(when, step, RESUMED, step)

    def log_epochs(self, count: int) -> None:
        """Log that there are ``count`` epochs."""
        self.add(time(), self.step, EPOCHS, count)

    def log_progress(self, fraction: float) -> None:
        """Log that ``fraction`` (0 to 1) of the epochs is done."""
        self.add(time(), self.step, PROGRESS, fraction)

    def discard(self) -> None:
        """Discard everything from now on, as in a loader's worker, which is forked from the rank."""
        self.path = None
        self._rows.clear()
        self._automatic.clear()
        self._appenders.clear()
        self._discards = True
        self._add_series = lambda names: _discard_row  # type: ignore[method-assign]  # noqa: ARG005

    def start(self) -> None:
        """Start the thread that flushes."""
        threading.Thread(target=self._run, name="mlnb-metrics", daemon=True).start()

    def _run(self) -> None:
        parent = os.getppid()
        wait = threading.Event().wait
        pause = 0.01  # short at first, so that the first values appear soon
        while True:
            wait(pause)
            pause = min(INTERVAL, pause * 1.3)
            self.flush()
            if os.getppid() != parent:  # the node program died: nothing would report on this rank
                self.flush()
                os.killpg(os.getpgrp(), 9)

    def flush(self, *, last: bool = False) -> None:
        """Append all rows to the file; errors are kept in ``error``, not raised. ``last``: nothing more is expected."""
        self._hold_until = 0.0 if last else self._hold_until
        if self.path is None or os.getpid() != self._pid:  # a forked child (a loader's worker) must not write
            for rows in [*self._rows.values(), *self._automatic.values()]:
                rows.clear()
            return
        with self._lock:
            for call in self._before_flush:
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - automatic metrics must not cost those that the script logs
                    self._dropped = self.error = f"step times and rates are incomplete: {error!r}"
            self._unwritten += self._encode_pending()
            if self._unwritten:
                self._write(self.path)

    def _write(self, path: Path) -> None:
        """Append the encoded frames completely or not at all: an incomplete frame would hide those after it."""
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
            if len(self._unwritten) > _MAX_UNWRITTEN:
                self._unwritten, self._dropped = b"", f"{self.error}; some are missing"

    def _encode_pending(self) -> bytes:
        """Remove all rows from memory and return them as frames."""
        parts = []
        held = self._expected - self._own if monotonic() < self._hold_until else frozenset()
        automatic = [((name,), rows) for name, rows in list(self._automatic.items()) if name not in held]
        for names, rows in [*automatic, *list(self._rows.items())]:
            width = 2 + len(names)
            while rows:
                chunk = rows[: width * _ROWS_PER_FRAME]  # each of these two is atomic, and extend adds complete rows
                del rows[: width * _ROWS_PER_FRAME]
                values = _doubles(chunk)
                parts.append(frames.encode_rows(names, values))
                self._watch_losses(names, values)
        return b"".join(parts)

    def _watch_losses(self, names: tuple[str, ...], values: array[float]) -> None:
        """Keep since which step losses have been NaN."""
        width = 2 + len(names)
        for index, name in enumerate(names, 2):
            if "loss" not in name.lower() and name not in self._automatic:
                continue
            if not math.isnan(values[len(values) - width + index]):
                self._nan_since.pop(name, None)
                continue
            row = len(values) // width
            while row and math.isnan(values[(row - 1) * width + index]):
                row -= 1
            if row or name not in self._nan_since:
                self._nan_since[name] = values[row * width + 1]


def _discard_row(_: tuple[Any, ...]) -> None:
    """Discard a row."""


def _doubles(values: list[Any]) -> array[float]:
    try:
        return array("d", values)
    except Exception:  # noqa: BLE001 - tensors, or whatever was logged
        return array("d", [_number(value) for value in values])


def _snapshot(value: Any) -> Any:
    """Return a copy of a number: the loop may change it in place before the thread reads it. ``None`` if it is none.

    On a GPU the copy stays on the device; reading it here would make the loop wait for the device.
    """
    if isinstance(value, (str, bytes)):
        return None
    try:
        if getattr(value, "is_cpu", True) is False:
            return value.detach().clone() if value.numel() == 1 else None
        return float(value.item()) if hasattr(value, "item") else float(value)
    except Exception:  # noqa: BLE001 - whatever was logged
        return None


def _kind(value: Any) -> str:
    """What a value is that is no number, for people."""
    kind = type(value).__name__
    try:
        return f"{kind} of {len(value)}" if not isinstance(value, (str, bytes)) and hasattr(value, "__len__") else kind
    except Exception:  # noqa: BLE001 - whatever was logged
        return kind


def _number(value: Any) -> float:
    """Convert to a double; what is no number becomes NaN, since a typo must not end a training."""
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - ``__float__`` of whatever was logged
        return float("nan")


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


current = Metrics()
"""The metrics of this process; discards everything until :func:`begin` replaces it in a rank."""


def begin(path: Path) -> Metrics:
    """Make this process a rank that writes its metrics to ``path``."""
    global current
    current = Metrics(path)
    current.start()
    os.register_at_fork(after_in_child=current.discard)
    sys.modules["mlnb"].__dict__["log"] = current.log  # so that the script's `mlnb.log` has no indirection
    return current


def log(step: int | None = None, **values: Any) -> None:
    """Log metrics: ``mlnb.log(acc=0.97, lr=1e-3)``.

    Parameters
    ----------
    step
        the training step; by default the number of optimizer steps so far.
    values
        numbers or tensors of one element, by metric name. NaN and infinity are preserved. Other values are left out,
        and a note of the run names them. What is logged as ``loss`` takes the place of the loss that mlnb records.

    Notes
    -----
    Costs about a microsecond, never blocks and never raises. Outside a run it does nothing.
    """
    current.log(step, **values)
