"""How long this user's last runs on a target waited before they started: the best guess for the next one."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from mlnb.rundir import RunDir, parse_lines, read_json
from mlnb.units import format_time

NEWEST = 50
"""Runs that are looked at, of whatever target: what it costs is bounded."""

FRESH = 60.0
"""Seconds for which an answer is kept."""

_FIRST_EVENTS = 4096
"""Bytes of a node's events that are read: that it started is the first."""


@dataclass(frozen=True)
class Waits:
    """How long runs waited, in seconds."""

    count: int
    shortest: float
    median: float
    longest: float

    def words(self, where: str) -> str:
        """One sentence: ``your last 12 runs on gpu waited between 3 s and 41 min (median 2 min)``."""
        if self.count == 1:
            return f"your last run on {where} waited {format_time(self.median)}"
        shortest, median, longest = (format_time(each) for each in (self.shortest, self.median, self.longest))
        if shortest == longest:
            return f"your last {self.count} runs on {where} waited {median}"
        middle = f" (median {median})" if self.count > 2 else ""
        return f"your last {self.count} runs on {where} waited between {shortest} and {longest}{middle}"


_kept: dict[tuple[Path, str, str | None], tuple[float, Waits | None]] = {}


def waits(root: Path, target: str, partition: str | None = None) -> Waits | None:
    """What this user's newest runs on ``target`` (and ``partition``) waited, from submission to their first start.

    ``None`` if there is none that started. Runs that are still waiting are left out.
    """
    key = (root, target, partition)
    now = time.monotonic()
    if key in _kept and now - _kept[key][0] < FRESH:
        return _kept[key][1]
    seconds = [waited for path in _newest(root) if (waited := _waited(RunDir(path), target, partition)) is not None]
    found = None
    if seconds:
        found = Waits(len(seconds), min(seconds), statistics.median(seconds), max(seconds))
    _kept[key] = (now, found)
    return found


def past(root: Path, target: str, partition: str | None = None) -> str:
    """The words of :func:`waits`; empty if there is nothing to tell."""
    found = waits(root, target, partition)
    return found.words(partition or target) if found else ""


def _newest(root: Path) -> list[Path]:
    """The newest run directories: their names, the runs' ids, sort by time."""
    try:
        names = [entry.name for entry in os.scandir(root) if not entry.name.startswith(".")]
    except OSError:  # no run was ever submitted
        return []
    return [root / name for name in sorted(names, reverse=True)[:NEWEST]]


def _waited(run: RunDir, target: str, partition: str | None) -> float | None:
    """Seconds from submission to the first start; ``None`` if it hasn't started, or was elsewhere or another's."""
    about = read_json(run.run)
    if about is None or about.get("target") != target:
        return None
    if partition is not None and about.get("partition") != partition:
        return None
    try:
        if run.path.stat().st_uid != os.getuid():
            return None
        with run.attempt(1).events(0).open("rb") as file:
            events = parse_lines(file.read(_FIRST_EVENTS))
    except OSError:  # it has no events yet
        return None
    started = next((event.get("t") for event in events if event.get("event") == "started"), None)
    submitted = about.get("submitted")
    if not isinstance(started, (int, float)) or not isinstance(submitted, (int, float)):
        return None
    return max(0.0, started - submitted)  # clocks of two machines may differ a little
