"""Selects a rank's part of a loader's batches.

In each step, N ranks together get what one process with N times the batch size gets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Batch = Sequence[Any]
"""Indices of one batch."""


def split(batches: Sequence[Batch], rank: int, world: int) -> tuple[list[Any], float]:
    """Return one rank's part of a global batch that consists of up to ``world`` batches.

    Returns
    -------
    tuple
        the indices, and the weight of their mean in the mean over all ranks: their share of the samples times
        ``world``. A rank for which none are left gets a sample of another rank at weight 0, since all ranks must step
        together.
    """
    indices = [index for batch in batches for index in batch]
    total = len(indices)
    if len(batches) == world and len({len(batch) for batch in batches}) == 1:
        return list(batches[rank]), 1.0
    start, stop = total * rank // world, total * (rank + 1) // world
    if start == stop:
        return indices[:1], 0.0
    return indices[start:stop], (stop - start) * world / total


class ShardedBatches:
    """A batch sampler that yields one rank's part of each global batch.

    Parameters
    ----------
    batches
        the loader's own batch sampler. Every rank iterates it in the same order.
    drop_last
        whether an incomplete global batch is left out, as one process with that batch size would.
    """

    def __init__(self, batches: Iterable[Batch], rank: int, world: int, *, drop_last: bool) -> None:
        self._batches, self._rank, self._world, self._drop_last = batches, rank, world, drop_last
        self.weights: deque[float] = deque()
        """Weights of the batches that the last iteration has drawn and that were not used yet, oldest first."""

    def __len__(self) -> int:
        count = len(self._batches)  # type: ignore[arg-type]
        return count // self._world if self._drop_last else -(-count // self._world)

    def __iter__(self) -> Iterator[list[Any]]:
        self.weights = deque()  # at once, and another for each iteration: two may go on at a time
        return self._parts(self.weights)

    def _parts(self, weights: deque[float]) -> Iterator[list[Any]]:
        group: list[Batch] = []
        for batch in self._batches:
            group.append(batch)
            if len(group) == self._world:
                yield self._own_part(group, weights)
                group = []
        if group and not self._drop_last:
            yield self._own_part(group, weights)

    def _own_part(self, group: list[Batch], weights: deque[float]) -> list[Any]:
        indices, weight = split(group, self._rank, self._world)
        weights.append(weight)
        return indices


def shard_stream(
    batches: Iterable[Any], rank: int, world: int, size: Callable[[Any], int], *, drop_last: bool = False
) -> Iterator[tuple[Any, float]]:
    """Yield every ``world``-th batch of a stream without indices, each with its weight; see :func:`split`.

    In the last round, if it is incomplete, ranks that get no batch get the first one at weight 0; ``drop_last`` leaves
    it out. ``size`` returns the number of samples in a batch.
    """
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == world:
            yield group[rank], size(group[rank]) * world / max(1, sum(map(size, group)))
            group = []
    if group and not drop_last:
        total = max(1, sum(map(size, group)))
        yield (group[rank], size(group[rank]) * world / total) if rank < len(group) else (group[0], 0.0)
