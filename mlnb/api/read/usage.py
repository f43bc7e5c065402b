"""What the nodes of a run use, second by second, as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Sample = dict[str, Any]
"""``t`` in seconds since the epoch, ``cpu`` in cores, ``memory`` in bytes, ``gpus`` one by one; ``None`` if unknown."""

CARRY = 3
"""Seconds for which a node's newest sample stands for it."""


class UsageAggregator:
    """Samples of ``nodes`` nodes become samples of all: sums, and GPUs numbered through.

    A second is told when all nodes have come to it, or when one is :data:`CARRY` seconds ahead. A node that was silent
    for longer is left out of it; its GPUs keep their numbers.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._newest: dict[int, Sample] = {}  # by node, of the seconds that were told
        self._waiting: dict[int, dict[int, Sample]] = {}  # by second and node
        self._reached: dict[int, int] = {}
        self._gpus: dict[int, int] = {}

    def add(self, node: int, sample: Sample) -> list[Sample]:
        """Take a sample of one node; those of all that are now known, in order."""
        if self._nodes == 1:
            return [sample]
        second = int(sample["t"])
        self._waiting.setdefault(second, {})[node] = sample
        self._reached[node] = max(second, self._reached.get(node, second))
        self._gpus[node] = len(sample["gpus"] or ())
        front = max(self._reached.values())
        everyone = min(self._reached.values()) if len(self._reached) == self._nodes else front - CARRY - 1
        known = max(everyone, front - CARRY - 1)
        return [self._sum(one) for one in sorted(self._waiting) if one <= known]

    def _sum(self, second: int) -> Sample:
        self._newest |= self._waiting.pop(second)
        there = {node: one for node, one in self._newest.items() if second - int(one["t"]) <= CARRY}
        gpus: list[Sample] = []
        for node in sorted(self._gpus):
            own: Sequence[Sample] = there[node]["gpus"] or () if node in there else ({},) * self._gpus[node]
            gpus += [{**gpu, "gpu": str(len(gpus) + place)} for place, gpu in enumerate(own)]
        return {
            "t": float(second),
            "cpu": _total(there, "cpu"),
            "memory": _total(there, "memory"),
            "gpus": gpus,
        }


def _total(samples: dict[int, Sample], name: str) -> float | None:
    known = [one[name] for one in samples.values() if one.get(name) is not None]
    return sum(known) if known else None
