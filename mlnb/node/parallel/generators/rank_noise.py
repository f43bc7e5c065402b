"""Torch's generators while ranks train on their parts of the data: noise differs between ranks, decisions do not.

All ranks draw the same until the first batch of a sharded loop is known. From then to the loop's end each rank has a
stream of its own, so that dropout masks and noise are not the same for the parts of a batch. What samplers draw, and
single numbers (``torch.rand(1) < 0.5`` decides for the whole batch), are still drawn from the common stream; after the
loop, all goes on with that. Python's and numpy's generators are common all the time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

from mlnb.node.rank.patches import Patches

_States = tuple[torch.Tensor, list[torch.Tensor] | None]

_DRAW_ONCE = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)
"""Samplers that draw from torch's generator only when they begin."""


class RankNoise:
    """The streams of this rank.

    Parameters
    ----------
    rank
        which rank this is.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._common: _States | None = None  # while the ranks are apart
        self._loops = 0
        self._together = 0  # blocks of together()

    @property
    def is_apart(self) -> bool:
        """Whether this rank may have a stream of its own now."""
        return self._common is not None or self._together > 0

    def install(self, patches: Patches) -> None:
        """Let single numbers be drawn from the common stream."""
        for name in ("rand", "randn", "randint"):
            patches.wrap(torch, name, self._wrap)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        skipped = 0 if original.__name__ in ("rand", "randn") else None

        def draw(*args: Any, **kwargs: Any) -> Any:
            if self._common is None or "generator" in kwargs or not _is_single(args, kwargs, skipped):
                return original(*args, **kwargs)
            with self.together():
                return original(*args, **kwargs)

        return draw

    def begin_loop(self) -> None:
        """A sharded loop has begun."""
        self._loops += 1

    def end_loop(self) -> None:
        """It has ended; after the outermost, the ranks draw together again."""
        self._loops -= 1
        if not self._loops and self._common is not None:
            _set(self._common)
            self._common = None

    def go_apart(self) -> None:
        """From now on each rank draws from a stream of its own."""
        if self._common is not None or self._together:
            return
        self._common = _states()
        if self._rank:
            digest = hashlib.sha256(self._common[0].numpy().tobytes() + str(self._rank).encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:7], "big"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Draw from the common stream within this block."""
        common, own = self._common, None
        if common is not None:
            own, self._common = _states(), None
            _set(common)
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            if own is not None:
                self._common = _states()
                _set(own)

    def shared(self, batches: Any, *, trains: bool) -> SharedDraws:
        """``batches`` of a sampler, drawn from the common stream."""
        return SharedDraws(batches, self, trains)

    @contextmanager
    def worker_seeds(self, loader: Any) -> Iterator[None]:
        """Give the workers of a loader, which are about to be started, seeds that differ between ranks."""
        if not self._rank or not loader.num_workers:
            yield
            return
        own = loader.generator
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=own).item())  # as rank 0 does
        digest = hashlib.sha256(f"{seed} {self._rank}".encode()).digest()
        loader.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        try:
            yield
        finally:
            loader.generator = own


class SharedDraws:
    """A batch sampler whose batches all ranks draw alike.

    Parameters
    ----------
    batches
        the loader's own batch sampler.
    noise
        the streams of this rank.
    trains
        whether the ranks go apart after the first batch.
    """

    def __init__(self, batches: Any, noise: RankNoise, trains: bool) -> None:
        self._batches, self._noise, self._trains = batches, noise, trains

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        draws_once = type(self._batches) is BatchSampler and type(self._batches.sampler) in _DRAW_ONCE
        with self._noise.together():
            iterator = iter(self._batches)
            batches = list(_first(iterator))
        while batches:
            if self._trains:
                self._noise.go_apart()
            yield batches[0]
            if draws_once:
                yield from iterator
                return
            with self._noise.together():
                batches = list(_first(iterator))


def _first(iterator: Iterator[Any]) -> Iterator[Any]:
    for value in iterator:
        yield value
        return


def _is_single(args: tuple[Any, ...], kwargs: dict[str, Any], skipped: int | None) -> bool:
    """Whether what ``rand(*size)`` or ``randint(low, high, size)`` returns is one number."""
    size = kwargs.get("size")
    if size is None:
        size = args if skipped == 0 else args[-1] if args else ()
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        size = args[0]
    try:
        return math.prod(size) == 1
    except TypeError:
        return False


def _states() -> _States:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda


def _set(states: _States) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state_all(states[1])
