"""Reads the progress and the resource usage of a run's newest attempt from the events of its nodes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlnb.api.read.growable import GrowableColumns
from mlnb.api.read.history import Series
from mlnb.api.read.tailing import JsonlTail
from mlnb.api.read.usage import Sample, UsageAggregator
from mlnb.node.attempt.events import INTERRUPTED
from mlnb.rundir import RunDir, parse_lines, read_json
from mlnb.task import Resources


@dataclass
class AttemptProgress:
    """The progress of the newest attempt, from its events.

    Attributes
    ----------
    state
        ``started``, ``starting`` or ``running``, as node 0 reports it; empty before that.
    last_heard
        when any node last wrote an event, in seconds since the epoch; ``None`` if none did.
    stop_reason
        why it is being stopped; empty if it isn't.
    interruption
        why it ended early, so that it may be queued again; empty if it did not.
    host
        host name of node 0, and how many nodes there are besides.
    usage
        the newest sample, all nodes together, as of the last call of :meth:`Events.usage`.
    """

    number: int = 0
    state: str = ""
    last_heard: float | None = None
    stop_reason: str = ""
    interruption: str = ""
    host: str = ""
    usage: dict[str, Any] | None = None


_SAMPLE = b'"event": "sample"'
"""What is near the beginning of the line of a sample. Nearly all lines are samples: one a second."""


class Events:
    """Reads the events of the newest attempt, of all its nodes; each call reads only what is new. Thread-safe.

    Samples are parsed only if :meth:`usage` is called: the state of a run that began days ago is known at once.

    Attributes
    ----------
    awaited
        the number of the attempt for whose late result an observer has waited; 0 for none.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.awaited = 0
        self._tails: list[JsonlTail] = []
        self._sample_tails: list[JsonlTail] = []
        self._aggregator = UsageAggregator(1)
        self._lock = threading.Lock()
        self._samples: dict[str, GrowableColumns] = {}
        self._usage: dict[str, Series] = {}
        self._first_sample = 0.0
        self.progress = AttemptProgress()

    def read(self) -> AttemptProgress:
        """The progress of the newest attempt now."""
        with self._lock:
            return self._read()

    def usage(self) -> dict[str, Series]:
        """The resource usage of the newest attempt, over seconds since its first sample.

        ``mlnb.cpu`` is in cores, ``mlnb.memory`` in bytes; GPUs are ``mlnb.gpuN.utilisation``, ``.memory`` and
        ``.power``. Of several nodes these are sums; each has its own, as ``mlnb.node1.cpu`` and
        ``mlnb.node1.gpu0.power``.
        """
        with self._lock:
            self._read()
            self._read_samples()
            for name, columns in self._samples.items():
                old = self._usage.get(name)
                if old is None or len(old) < len(columns):
                    attempt = np.full(len(columns), self.progress.number, dtype=np.int16)
                    times, steps, values = columns.columns()
                    self._usage[name] = Series(times, steps, values, attempt, self.progress.number, len(columns))
            return dict(self._usage)

    def _read(self) -> AttemptProgress:
        attempts = self._run.attempts()
        if not attempts:
            return self.progress
        newest = attempts[-1]
        if newest.number != self.progress.number or not self._tails:
            nodes = _node_count(self._run)
            self._tails = [JsonlTail(newest.events(node)) for node in range(nodes)]
            self._sample_tails = [JsonlTail(newest.events(node)) for node in range(nodes)]
            self._aggregator = UsageAggregator(nodes)
            self.progress = AttemptProgress(newest.number)
            self._samples, self._usage = {}, {}
        for node, tail in enumerate(self._tails):
            lines = tail.new_data().split(b"\n")[:-1]
            events = [line for line in lines[:-1] if _SAMPLE not in line[:64]]
            for event in parse_lines(b"\n".join([*events, *lines[-1:]])):  # the last line says when the node was heard
                self._apply(node, event)
        return self.progress

    def _apply(self, node: int, event: dict[str, Any]) -> None:
        """Update the progress with one event of one node."""
        progress = self.progress
        progress.last_heard = max(progress.last_heard or 0.0, event.get("t") or 0.0)
        kind = event.get("event")
        if kind == "ending":
            progress.stop_reason = progress.stop_reason or str(event.get("reason", ""))
        elif node == 0 and kind in ("started", "starting", "running"):
            progress.state = str(kind)
            if "host" in event:
                more = len(self._tails) - 1
                progress.host = f"{event['host']} and {more} more" if more else event["host"]
        elif node == 0 and kind == INTERRUPTED:
            progress.interruption = str(event.get("reason", ""))

    def _read_samples(self) -> None:
        """Read the new samples of all nodes, in the order of their times."""
        samples: list[tuple[float, int, Sample]] = []
        for node, tail in enumerate(self._sample_tails):
            for event in tail.new():
                if event.get("event") == "sample":
                    time = float(event.get("t") or 0.0)
                    sample = {"t": time, **{key: event.get(key) for key in ("cpu", "memory", "gpus")}}
                    samples.append((time, node, sample))
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for _, node, sample in sorted(samples, key=lambda item: item[:2]):
            for usage in self._aggregator.add(node, sample):
                self.progress.usage = usage
                self._add_rows(rows, usage)
        for name, of_name in rows.items():
            self._samples.setdefault(name, GrowableColumns(3)).append(*np.array(of_name).T)

    def _add_rows(self, rows: dict[str, list[tuple[float, float, float]]], usage: Sample) -> None:
        time = float(usage["t"] or 0.0)
        self._first_sample = self._first_sample if self._samples or rows else time
        values = {"mlnb.cpu": usage["cpu"], "mlnb.memory": usage["memory"]}
        nodes = usage.get("nodes") or {}
        if not nodes:
            values |= _gpu_values("mlnb", usage)
        for node, sample in nodes.items():
            values |= {f"mlnb.node{node}.{field}": sample.get(field) for field in ("cpu", "memory")}
            values |= _gpu_values(f"mlnb.node{node}", sample)
        for name, value in values.items():
            if isinstance(value, (int, float)):
                rows.setdefault(name, []).append((time, time - self._first_sample, float(value)))


def _gpu_values(prefix: str, sample: Sample) -> dict[str, Any]:
    return {
        f"{prefix}.gpu{index}.{field}": gpu.get(field)
        for index, gpu in enumerate(sample.get("gpus") or ())
        for field in ("utilisation", "memory", "power")
    }


def _node_count(run: RunDir) -> int:
    resources = (read_json(run.task) or {}).get("resources", {})
    return int(resources.get("nodes", Resources.nodes))
