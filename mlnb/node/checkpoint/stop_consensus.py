"""Lets all ranks stop after the same training step, without communication until a rank has to stop.

A rank that has to stop (SIGTERM or SIGUSR1) writes its step to the process group's key-value store, after each step.
When the store has the steps of all ranks, the first rank to notice writes a later step: the stop step. Ranks that
average gradients are at most one step apart, so none has passed it yet. Ranks that are not held together may have
passed it: then this shows in the store before any rank stops, and a later stop step is written.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

from mlnb.node import torch_private
from mlnb.node.parallel.together import rank_group

_END = 2**62
"""The step of a rank that will not reach another one: no rank can stop before it."""

_POLL_INTERVAL = 0.001
"""Seconds."""


class StopConsensus:
    """One agreement of all ranks on a step to stop after. A single rank stops at the first step that it asks for.

    Parameters
    ----------
    name
        the same on all ranks, and never used before in the store.
    rank, world
        which rank this is, of how many in the process group.
    store
        the process group's key-value store; ``None`` without a process group.
    """

    def __init__(self, name: str, rank: int = 0, world: int = 1, store: Any = None) -> None:
        self._name, self._rank, self._world, self._store = f"mlnb/stop/{name}", rank, world, store
        self._participating = False

    @classmethod
    def of_group(cls, name: str) -> StopConsensus:
        """Make one for the ranks that train together, or of the default process group; else for this rank alone."""
        group = rank_group.current
        if group is not None:
            return cls(name, group.rank, group.world, group.store)
        if not dist.is_available() or not dist.is_initialized():
            return cls(name)
        return cls(name, dist.get_rank(), dist.get_world_size(), torch_private.default_store())

    def stops_at(self, step: int) -> bool:
        """Whether all ranks stop after ``step``, which must be greater than in earlier calls. May wait for others."""
        if self._world == 1:
            return True
        self._participating = True
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # otherwise this rank could be ahead of collectives that it has only queued
        while True:
            stop_step = self._stop_step()
            if stop_step is None:
                others = self._others()
                if None in others:
                    return self._continue(step)
                self._propose("", [(step, False), *others])
            elif step < int(stop_step):
                return self._continue(step)
            else:
                self._report(step, stops=True)
                others = self._others()
                if all(other == (step, True) for other in others):
                    return True
                if any(other is not None and _passed(other, step) for other in others):
                    self._propose(stop_step, [(step, True), *others])
                else:
                    time.sleep(_POLL_INTERVAL)

    def leave(self) -> None:
        """Report that this rank will make no more steps here."""
        if self._participating:
            self._report(_END, stops=False)

    def _continue(self, step: int) -> bool:
        self._report(step, stops=False)
        return False

    def _report(self, step: int, *, stops: bool) -> None:
        self._store.set(f"{self._name}/{self._rank}", f"{step} {int(stops)}")

    def _others(self) -> list[tuple[int, bool] | None]:
        """Return the steps of the other ranks, and whether they stop there; ``None`` for ranks without a report."""
        reports: list[tuple[int, bool] | None] = []
        for rank in range(self._world):
            if rank != self._rank:
                report = self._get(f"{self._name}/{rank}")
                step, stops = report.split() if report else (None, None)
                reports.append(None if step is None else (int(step), stops == "1"))
        return reports

    def _stop_step(self) -> str | None:
        """Return the stop step as it was written, or ``None``. Ranks stop at the first step that is not below it."""
        return self._get(f"{self._name}/at")

    def _get(self, key: str) -> str | None:
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _propose(self, current: str, reports: list[tuple[int, bool] | None]) -> None:
        """Replace the stop step ``current`` by one after all reported steps, unless another rank has replaced it."""
        newest = max(report[0] for report in reports if report is not None)
        self._store.compare_set(f"{self._name}/at", current, str(newest + 1))


def _passed(report: tuple[int, bool], step: int) -> bool:
    return report[0] > step or report == (step, False)
