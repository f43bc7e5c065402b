"""Adds up the resource usage of a run's nodes, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Sample = dict[str, Any]
"""``t`` in seconds since the epoch, ``cpu`` in cores, ``memory`` in bytes, ``gpus`` a list; ``None`` if unknown."""

CARRY = 3
"""Seconds for which a node's newest sample is used when newer ones are missing."""


class UsageAggregator:
    """Turns samples of single nodes into samples of the run: sums, GPUs numbered over all nodes, and the nodes' own.

    The sample of a second is returned when all nodes have reached that second, or when one is more than :data:`CARRY`
    seconds ahead. A node that was silent for longer is left out of it; its GPUs keep their numbers.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._newest: dict[int, Sample] = {}  # by node, of the seconds already returned
        self._waiting: dict[int, dict[int, Sample]] = {}  # by second and node
        self._reached: dict[int, int] = {}
        self._gpus: dict[int, int] = {}

    def add(self, node: int, sample: Sample) -> list[Sample]:
        """Add a sample of one node. Returns the samples of the run that are now complete, in order."""
        if self._nodes == 1:
            return [sample]
        second = int(sample["t"])
        self._waiting.setdefault(second, {})[node] = sample
        self._reached[node] = max(second, self._reached.get(node, second))
        self._gpus[node] = len(sample["gpus"] or ())
        complete = max(self._reached.values()) - CARRY - 1
        if len(self._reached) == self._nodes:
            complete = max(complete, min(self._reached.values()))
        return [self._sum(waiting) for waiting in sorted(self._waiting) if waiting <= complete]

    def _sum(self, second: int) -> Sample:
        self._newest |= self._waiting.pop(second)
        current = {node: sample for node, sample in self._newest.items() if second - int(sample["t"]) <= CARRY}
        gpus: list[Sample] = []
        for node in sorted(self._gpus):
            of_node: Sequence[Sample] = current[node]["gpus"] or () if node in current else ({},) * self._gpus[node]
            gpus += [{**gpu, "gpu": str(number)} for number, gpu in enumerate(of_node, start=len(gpus))]
        return {
            "t": float(second),
            "cpu": _total(current, "cpu"),
            "memory": _total(current, "memory"),
            "gpus": gpus,
            "nodes": {node: current.get(node, {}) for node in sorted(self._gpus)},
        }


def _total(samples: dict[int, Sample], name: str) -> float | None:
    values = [sample[name] for sample in samples.values() if sample.get(name) is not None]
    return sum(values) if values else None
