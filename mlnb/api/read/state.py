"""The state of runs: from what their files and their targets say, never from silence alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlnb.api.read.describe import append_reason, readable_reason, who_stopped
from mlnb.api.read.growable import GrowableColumns
from mlnb.api.read.history import Series
from mlnb.api.read.mirrored import refresh
from mlnb.api.read.tailing import JsonlTail
from mlnb.api.read.usage import Sample, UsageAggregator
from mlnb.errors import MlnbError
from mlnb.node.attempt.events import INTERRUPTED
from mlnb.rundir import FINAL, RunDir, read_json, read_json_fresh, revalidate_directory
from mlnb.runinfo import RunInfo
from mlnb.targets.base import Status
from mlnb.targets.registry import target
from mlnb.task import Resources
from mlnb.workspace import Workspace

_PATIENCE = 60.0
"""Seconds after which a directory without a handle is a submission that died."""

_SETTLE = 0.2

_SILENT = 10.0
"""Seconds without an event, where a sample comes every second, after which a target's word that the job waits counts
more than the last that its programs said."""


@dataclass(frozen=True)
class Observation:
    """A run's state (a word of ``mlnb.rundir.STATES``), why in words, and the result if it has one."""

    state: str
    reason: str
    result: dict[str, Any] | None = None


@dataclass
class Phase:
    """How far the newest attempt has come, by its own events.

    Attributes
    ----------
    state
        ``started``, ``starting`` or ``running``, as node 0 said; empty before.
    heard
        when any node was last heard of, in seconds since the epoch.
    ending, interrupted
        why it ends; why it ended without being through.
    host
        where it runs.
    usage
        the newest sample, of all nodes together.
    """

    number: int = 0
    state: str = ""
    heard: float | None = None
    ending: str = ""
    interrupted: str = ""
    host: str = ""
    usage: dict[str, Any] | None = None


class Events:
    """The events of a run's nodes, newest attempt, read as they come."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._lines: list[JsonlTail] = []
        self._aggregator = UsageAggregator(1)
        self._lock = threading.Lock()
        self._samples: dict[str, GrowableColumns] = {}
        self._usage: dict[str, Series] = {}
        self._first = 0.0
        self.phase = Phase()

    def read(self) -> Phase:
        """What is known now; from any thread."""
        with self._lock:
            return self._read()

    def usage(self) -> dict[str, Series]:
        """What the newest attempt's processes and GPUs used, over its seconds: ``mlnb.cpu`` in cores, and so on."""
        with self._lock:
            self._read()
            for name, grown in self._samples.items():
                old = self._usage.get(name)
                if old is None or len(old) < len(grown):
                    attempt = np.full(len(grown), self.phase.number, dtype=np.int16)
                    times, steps, values = grown.columns()
                    self._usage[name] = Series(times, steps, values, attempt, self.phase.number, len(grown))
            return dict(self._usage)

    def _read(self) -> Phase:
        attempts = self._run.attempts()
        if not attempts:
            return self.phase
        newest = attempts[-1]
        if newest.number != self.phase.number or not self._lines:
            nodes = _nodes(self._run)
            self._lines = [JsonlTail(newest.events(node)) for node in range(nodes)]
            self._aggregator = UsageAggregator(nodes)
            self.phase = Phase(newest.number)
            self._samples, self._usage = {}, {}
        for node, lines in enumerate(self._lines):
            for event in lines.new():
                self._take(node, event)
        return self.phase

    def _take(self, node: int, event: dict[str, Any]) -> None:
        phase = self.phase
        phase.heard = max(phase.heard or 0.0, event.get("t") or 0.0)
        kind = event.get("event")
        if kind == "sample":
            told = {key: event.get(key) for key in ("t", "cpu", "memory", "gpus")}
            for usage in self._aggregator.add(node, {**told, "t": told["t"] or 0.0}):
                phase.usage = usage
                self._sample(usage)
        elif kind == "ending":
            phase.ending = phase.ending or str(event.get("reason", ""))
        elif node == 0 and kind in ("started", "starting", "running"):
            phase.state = str(kind)
            if "host" in event:
                others = len(self._lines) - 1
                phase.host = f"{event['host']} and {others} more" if others else event["host"]
        elif node == 0 and kind == INTERRUPTED:
            phase.interrupted = str(event.get("reason", ""))

    def _sample(self, usage: Sample) -> None:
        when = float(usage["t"] or 0.0)
        self._first = self._first if self._samples else when
        values = {"mlnb.cpu": usage["cpu"], "mlnb.memory": usage["memory"]}
        for index, gpu in enumerate(usage["gpus"] or ()):
            values |= {f"mlnb.gpu{index}.{word}": gpu.get(word) for word in ("utilisation", "memory", "power")}
        for name, value in values.items():
            if isinstance(value, (int, float)):
                row = np.array([[when], [when - self._first], [value]])
                self._samples.setdefault(name, GrowableColumns(3)).append(*row)


class Watched(NamedTuple):
    """A run whose state is read again and again; ``workspace`` says whose it is."""

    directory: RunDir
    events: Events
    workspace: Workspace


def observe(runs: Sequence[Watched]) -> list[Observation]:
    """The states of many runs, each target asked once for all of its own."""
    found: dict[int, Observation] = {}
    asked: dict[tuple[str, Workspace], list[int]] = {}
    for index, run in enumerate(runs):
        final = _final(run.directory)
        if final is not None:
            found[index] = final
        else:
            asked.setdefault((RunInfo.read(run.directory).target, run.workspace), []).append(index)
    for (name, workspace), indices in asked.items():
        found |= zip(indices, _of_one_target(name, workspace, [runs[index] for index in indices]), strict=True)
    return [found[index] for index in range(len(runs))]


def _of_one_target(name: str, workspace: Workspace, runs: Sequence[Watched]) -> list[Observation]:
    directories = [run.directory for run in runs]
    try:
        place = target(name, workspace)
        statuses = place.poll(directories)
        gone = [run for run, status in zip(directories, statuses, strict=True) if status.alive is False]
        refresh(place, gone, at_once=True)
        refresh(place, directories)
    except MlnbError as error:  # what was read before holds
        statuses = [Status(None, "pending", str(error))] * len(runs)
    return [
        _final(run.directory) or _judge(run.directory, run.events, status)
        for run, status in zip(runs, statuses, strict=True)
    ]


def _final(run: RunDir, read: Callable[[Path], dict[str, Any] | None] = read_json) -> Observation | None:
    result = read(run.result)
    if result is None or result.get("attempt", 1) < len(run.attempts()):
        return None  # a newer attempt is under way
    return Observation(str(result["state"]), readable_reason(str(result.get("reason", ""))), result)


def _judge(run: RunDir, events: Events, status: Status) -> Observation:
    phase = events.read()
    if status.alive is False:
        return _vanished(run, events, status)
    if phase.interrupted:  # its programs have ended: what comes next, only the target knows
        if not status.reason:
            return Observation(status.state, f"to be queued again: {phase.interrupted}")
        return Observation(status.state, append_reason(phase.interrupted, status.reason))
    if status.state == "pending" and status.alive and time.time() - (phase.heard or 0.0) > _SILENT:
        return Observation(status.state, status.reason)
    if phase.ending:
        reason = readable_reason(phase.ending)
        stopped = reason != phase.ending
        return Observation("running", f"{reason}; stopping…" if stopped else f"stopping: {reason}")
    if phase.state == "running":
        return Observation("running", status.reason if status.state == "running" else "")
    if phase.state == "starting":
        return Observation("starting", "starting Python…")
    silent = status.alive is None and status.reason in ("", "being submitted")
    if silent and time.time() - _submitted(run) > _PATIENCE and read_json_fresh(run.handle) is None:
        return Observation("lost", "its submission was interrupted: it never reached its target")
    return Observation(status.state, status.reason)


def _submitted(run: RunDir) -> float:
    """When the newest attempt was submitted."""
    attempts = run.attempts()
    begun = [attempts[-1].path.stat().st_mtime] if attempts else []
    return max([RunInfo.read(run).submitted, *begun])


def _vanished(run: RunDir, events: Events, status: Status) -> Observation:
    """The job is gone: its result may have been written a moment before, on another machine."""
    final = _final(run, read_json_fresh)
    if final is None:
        time.sleep(_SETTLE)
        final = _final(run, read_json_fresh)
    if final is not None:
        return final
    for attempt in run.attempts()[-1:]:
        revalidate_directory(attempt.path)
    phase = events.read()
    heard = time.strftime(" (last heard of at %H:%M:%S)", time.localtime(phase.heard)) if phase.heard else ""
    last = f"; it was stopping: {readable_reason(phase.ending)}" if phase.ending else ""
    told = status.state if status.state in FINAL else None
    cancel = read_json_fresh(run.cancel)
    if cancel is not None:
        account = f"it wrote no result{heard}" if phase.heard else "it had not started"
        return Observation("cancelled", f"{who_stopped(str(cancel.get('by', 'its owner')))}; {account}")
    if phase.interrupted:
        more = "" if status.reason in phase.interrupted else status.reason
        return Observation("cancelled" if told == "cancelled" else "failed", append_reason(phase.interrupted, more))
    if told is not None:
        return Observation(told, f"{status.reason}{heard}{last}")
    return Observation("lost", f"{status.reason or 'its job vanished'} without a result{heard}{last}")


def _nodes(run: RunDir) -> int:
    """How many nodes a run has."""
    resources = (read_json(run.task) or {}).get("resources", {})
    return int(resources.get("nodes", Resources.nodes))
