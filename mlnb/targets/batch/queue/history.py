"""How long the user's last runs waited in a target's queue: an estimate for the next run, shown in the plan."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from mlnb.rundir import RunDir, parse_lines
from mlnb.runinfo import RunInfo
from mlnb.units import format_time

NEWEST = 50
"""How many of the newest runs, of all targets, are read: this bounds the cost."""

FRESH = 60.0
"""Seconds for which a result is cached."""

_FIRST_EVENTS = 4096
"""Bytes of a node's events that are read; the start is the first event."""


@dataclass(frozen=True)
class QueueTimes:
    """How long runs waited, in seconds."""

    count: int
    shortest: float
    median: float
    longest: float

    def sentence(self, where: str) -> str:
        """One sentence: ``your last 12 runs on gpu waited between 3 s and 41 min (median 2 min)``."""
        if self.count == 1:
            return f"your last run on {where} waited {format_time(self.median)}"
        shortest, median, longest = (format_time(each) for each in (self.shortest, self.median, self.longest))
        if shortest == longest:
            return f"your last {self.count} runs on {where} waited {median}"
        middle = f" (median {median})" if self.count > 2 else ""
        return f"your last {self.count} runs on {where} waited between {shortest} and {longest}{middle}"


_cache: dict[tuple[Path, str, str | None], tuple[float, QueueTimes | None]] = {}


def queue_times(root: Path, target: str, partition: str | None = None) -> QueueTimes | None:
    """How long the user's newest runs on ``target`` (in ``partition``) waited, from submission to their first start.

    ``None`` if none has started. Runs that still wait are left out.
    """
    key = (root, target, partition)
    now = time.monotonic()
    if key in _cache and now - _cache[key][0] < FRESH:
        return _cache[key][1]
    seconds = [
        waited for path in _newest(root) if (waited := _waiting_time(RunDir(path), target, partition)) is not None
    ]
    times = None
    if seconds:
        times = QueueTimes(len(seconds), min(seconds), statistics.median(seconds), max(seconds))
    _cache[key] = (now, times)
    return times


def queue_times_sentence(root: Path, target: str, partition: str | None = None) -> str:
    """The result of :func:`queue_times` as a sentence for the plan; empty if no run has started."""
    times = queue_times(root, target, partition)
    return times.sentence(partition or target) if times else ""


def _newest(root: Path) -> list[Path]:
    """The newest run directories: their names, the runs' ids, sort by time."""
    try:
        names = [entry.name for entry in os.scandir(root) if not entry.name.startswith(".")]
    except OSError:  # no run was ever submitted
        return []
    return [root / name for name in sorted(names, reverse=True)[:NEWEST]]


def _waiting_time(run: RunDir, target: str, partition: str | None) -> float | None:
    """Seconds from submission to the first start; ``None`` if it has not started, or is another target's or user's."""
    info = RunInfo.read(run)
    if info.target != target or not info.submitted:
        return None
    if partition is not None and info.placement.get("partition") != partition:
        return None
    try:
        if run.path.stat().st_uid != os.getuid():
            return None
        with run.attempt(1).events(0).open("rb") as file:
            events = parse_lines(file.read(_FIRST_EVENTS))
    except OSError:  # it has no events yet
        return None
    started = next((event.get("t") for event in events if event.get("event") == "started"), None)
    if not isinstance(started, (int, float)):
        return None
    return max(0.0, started - info.submitted)  # clocks of two machines may differ a little
