"""Ranks agree where to stop, without a word between them until someone asks for it.

Each rank that was asked says at every place where it could stop how far it is, through the store that the process
group has anyway. When all have spoken, the first to see it names a place that none can have passed. Ranks that
average gradients are within one such place of each other; those that are not may have passed it all the same, which
shows before anyone stops, and a later place is named.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

from mlnb.node import torch_private

_END = 2**62
"""Said by a rank behind its last place: nobody can stop in front of it any more."""

_PAUSE = 0.001


class Agreement:
    """One place to stop at, for all ranks; with one rank, or ranks that don't know each other, the first that comes.

    Parameters
    ----------
    name
        the same on all ranks, and of this agreement alone.
    rank, world
        which rank this is, of how many that know each other.
    store
        what they share, if they are several.
    """

    def __init__(self, name: str, rank: int = 0, world: int = 1, store: Any = None) -> None:
        self._name, self._rank, self._world, self._store = f"mlnb/stop/{name}", rank, world, store
        self._spoken = False

    @classmethod
    def of_group(cls, name: str) -> Agreement:
        """Of the ranks of the process group."""
        if not dist.is_available() or not dist.is_initialized():
            return cls(name)
        return cls(name, dist.get_rank(), dist.get_world_size(), torch_private.default_store())

    def at(self, position: int) -> bool:
        """Whether to stop at this position, which is behind those of all calls before. Waits if others are late."""
        if self._world == 1:
            return True
        self._spoken = True
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # or the others' part in what was queued would not hold this rank back
        while True:
            stop = self._stop()
            if stop is None:
                others = self._others()
                if None in others:
                    return self._go_on(position)
                self._name_behind("", [(position, False), *others])
            elif position < int(stop):
                return self._go_on(position)
            else:
                self._say(position, stops=True)
                others = self._others()
                if all(other == (position, True) for other in others):
                    return True
                if any(other is not None and _passed(other, position) for other in others):
                    self._name_behind(stop, [(position, True), *others])
                else:
                    time.sleep(_PAUSE)

    def leave(self) -> None:
        """Say that no place will come here any more."""
        if self._spoken:
            self._say(_END, stops=False)

    def _go_on(self, position: int) -> bool:
        self._say(position, stops=False)
        return False

    def _say(self, position: int, *, stops: bool) -> None:
        self._store.set(f"{self._name}/{self._rank}", f"{position} {int(stops)}")

    def _others(self) -> list[tuple[int, bool] | None]:
        """How far the other ranks are and whether they stop there; ``None`` for those that haven't spoken."""
        found: list[tuple[int, bool] | None] = []
        for rank in range(self._world):
            if rank != self._rank:
                said = self._get(f"{self._name}/{rank}")
                position, stops = said.split() if said else (None, None)
                found.append(None if position is None else (int(position), stops == "1"))
        return found

    def _stop(self) -> str | None:
        """The position at or behind which to stop first, as it was written, once it is named."""
        return self._get(f"{self._name}/at")

    def _get(self, key: str) -> str | None:
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _name_behind(self, before: str, places: list[tuple[int, bool] | None]) -> None:
        """Name a place behind all these in the place of ``before``, unless another rank has done so."""
        newest = max(place[0] for place in places if place is not None)
        self._store.compare_set(f"{self._name}/at", before, str(newest + 1))


def _passed(other: tuple[int, bool], position: int) -> bool:
    return other[0] > position or other == (position, False)
