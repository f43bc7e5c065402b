"""Shards the loaders of a plain loop: in each step, N ranks draw what one process with N times the batch size would."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from mlnb.node import torch_private
from mlnb.node.parallel.batch_sharding import ShardedBatches, shard_stream
from mlnb.node.parallel.generators.rank_noise import RankNoise
from mlnb.node.parallel.lengths import Lengths
from mlnb.node.parallel.loop_history import Loop, LoopHistory, caller
from mlnb.node.parallel.together import rank_group
from mlnb.node.parallel.together.rank_group import LineOf, RanksDiverged
from mlnb.node.parallel.training_mode import TrainingMode
from mlnb.node.rank import randomness
from mlnb.node.rank.patches import Patches

_SHARD, _SHARDED = "_mlnb_shard", "_mlnb_sharded"  # attributes of a loader: its ShardedBatches; whether it trains


class ShardedLoaders:
    """Replaces the iteration and the length of ``DataLoader``: those for training are sharded.

    Parameters
    ----------
    rank, world
        as torchrun counts them.
    is_plain
        returns whether nobody else distributes the training.
    synchronize
        called before a sharded loop: after it there is a group of ranks, which all have the same parameters.
    begin_batch
        gets each batch, and its weight in the mean over all ranks.
    end_batches
        called after the last batch of a loop, with the weight of the batch of the loop around it.
    backwards
        returns how often gradients were averaged.
    describe
        names the line that a frame executes.
    add_note
        adds a note to the run's result.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        *,
        is_plain: Callable[[], bool],
        synchronize: Callable[[], None],
        begin_batch: Callable[[Any, float], None],
        end_batches: Callable[[float], None],
        backwards: Callable[[], int],
        describe: LineOf,
        add_note: Callable[[str], None],
    ) -> None:
        self._rank, self._world, self._is_plain, self._begin_batch = rank, world, is_plain, begin_batch
        self._end_batches = end_batches
        self._synchronize, self._backwards, self._add_note = synchronize, backwards, add_note
        self._mode = TrainingMode()
        self._noise = RankNoise(rank)
        self._lengths = Lengths(world, describe, add_note)
        self._history = LoopHistory(backwards)
        self._active: dict[Loop, float] = {}  # sharded loops: the weight of the batch of each
        self._whole: Loop | None = None  # the last loop that is not sharded
        self.has_sharded = False
        """Whether a loader was sharded."""
        self.batch_size: int | None = None
        """That of the last loader that was sharded."""

    @property
    def is_sharding(self) -> bool:
        """Whether this rank is in a sharded loop."""
        return bool(self._active)

    def reason_for_whole_batches(self) -> str | None:
        """Why the loop that this rank is in is not sharded; ``None`` if it is, or is over."""
        loop = self._whole
        if self._active or loop is None or loop.iterator is None or loop.iterator() is None:
            return None
        self._history.end(loop)
        if self._mode.is_evaluation():
            return "all models that are trained are in evaluation mode"
        return "it has begun under torch.no_grad(), or in evaluation mode"

    def install(self, patches: Patches) -> None:
        """Wrap ``DataLoader``."""
        self._mode.install(patches)
        self._history.install(patches)
        self._noise.install(patches)
        self._lengths.install(patches)
        patches.wrap(DataLoader, "__iter__", self._wrap_iter)
        patches.wrap(DataLoader, "__len__", self._wrap_len)
        original_index = torch_private.index_sampler_property()

        def index_sampler(loader: Any) -> Any:
            """The loader's batches: this rank's part if it is for training, otherwise all of them."""
            own = original_index.__get__(loader)
            if not self._is_plain() or _is_stream(loader):
                return own
            trains = loader.__dict__.get(_SHARDED)
            if trains is None:  # len() before it is iterated: decided as an iteration here would be
                trains = self._is_for_training(loader)
            if trains:
                return self._shard(loader)
            return self._noise.shared(own, trains=False) if self._noise.is_apart else own

        patches.set(DataLoader, torch_private.INDEX_SAMPLER, property(index_sampler))

    def _wrap_iter(self, original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def iterate(loader: Any) -> Iterator[Any]:
            if not self._is_plain():
                return original(loader)
            self._note_outer_loops()
            loop = self._history.begin(loader, caller())
            trains = self._is_for_training(loader, self._history.trains(loop))
            self._lengths.begin_loop(loader, trains)
            if loader.__dict__.get(_SHARDED, trains) != trains and torch_private.has_persistent_iterator(loader):
                torch_private.end_persistent_iterator(loader)
            if not trains:
                loader.__dict__[_SHARDED] = False
                with self._noise.together():
                    iterator = original(loader)
                if not isinstance(loader.sampler, DistributedSampler):
                    loop.iterator = weakref.ref(iterator, lambda _: self._history.end(loop))
                    self._whole = loop
                return iterator
            self.has_sharded = True
            self.batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
            is_stream = _is_stream(loader)
            loader.__dict__[_SHARDED] = True
            with self._noise.together():
                self._synchronize()
                self._share_randomness(loader)
                if is_stream or torch_private.has_persistent_iterator(loader):
                    iterator = original(loader)
                else:
                    with self._noise.worker_seeds(loader):
                        iterator = original(loader)
            if is_stream:
                return self._iterate_stream(iterator, loop, loader.drop_last)
            return self._iterate_sharded(iterator, loop, self._shard(loader).weights)

        return iterate

    def _wrap_len(self, original: Callable[[Any], int]) -> Callable[[Any], int]:
        def length(loader: Any) -> int:
            if not self._is_plain():
                return original(loader)
            frame = sys._getframe(1)
            trains = loader.__dict__.get(_SHARDED)
            is_first = trains is None
            if is_first:  # decided as an iteration here would be
                self._note_outer_loops()
                trains = self._is_for_training(loader, self._history.expected(loader, frame))
                loader.__dict__[_SHARDED] = trains
            self._lengths.ask(loader, trains, is_first, frame)
            try:
                count = original(loader)
            finally:
                if is_first:
                    del loader.__dict__[_SHARDED]
            if not trains or not _is_stream(loader):
                return count
            return count // self._world if loader.drop_last else -(-count // self._world)

        return length

    def _note_outer_loops(self) -> None:
        """Let the history know what loops that still go on have done so far."""
        for outer in self._active:
            self._history.end(outer)

    def _is_for_training(self, loader: Any, trained_before: bool | None = None) -> bool:
        if not torch.is_grad_enabled() or isinstance(loader.sampler, DistributedSampler):
            return False
        return not self._mode.is_evaluation() if trained_before is None else trained_before

    def _shard(self, loader: Any) -> ShardedBatches:
        if _SHARD not in loader.__dict__:
            batches = loader.batch_sampler
            loader.__dict__[_SHARD] = ShardedBatches(
                self._noise.shared(batches, trains=True),
                self._rank,
                self._world,
                drop_last=bool(getattr(batches, "drop_last", False)),
            )
        shard: ShardedBatches = loader.__dict__[_SHARD]
        return shard

    def _iterate_sharded(self, iterator: Iterator[Any], loop: Loop, weights: deque[float]) -> Iterator[Any]:
        with self._sharded(loop) as begin_batch:
            for batch in iterator:
                self._noise.go_apart()
                begin_batch(batch, weights.popleft())
                yield batch

    def _iterate_stream(self, iterator: Iterator[Any], loop: Loop, drop_last: bool) -> Iterator[Any]:
        with self._sharded(loop) as begin_batch:
            draws = self._noise.shared(iterator, trains=True)  # all ranks draw all batches of the stream
            for batch, weight in shard_stream(draws, self._rank, self._world, _samples, drop_last=drop_last):
                begin_batch(batch, weight)
                yield batch

    @contextmanager
    def _sharded(self, loop: Loop) -> Iterator[Callable[[Any, float], None]]:
        """A sharded loop, which calls the function that is yielded with each batch and its weight."""
        self._active[loop] = 1.0
        self._noise.begin_loop()

        def begin_batch(batch: Any, weight: float) -> None:
            self._begin_batch(batch, weight)
            self._active[loop] = weight
            if len(set(self._active.values())) > 1:
                self._add_note(
                    "two loops over loaders go on at once, and their last batches are not full: a loss that takes "
                    "samples of both is weighted by those of the batch that was drawn last. drop_last=True avoids that."
                )

        try:
            yield begin_batch
        finally:
            self._end_of_loop(loop)

    def _end_of_loop(self, loop: Loop) -> None:
        del self._active[loop]
        self._history.end(loop)
        self._end_batches(next(reversed(self._active.values()), 1.0))
        self._noise.end_loop()
        if self._backwards() == loop.backwards:
            self._add_note(
                "a DataLoader was iterated with gradients enabled, but nothing was trained: each rank got "
                f"1/{self._world} of its batches. Under torch.no_grad() every rank gets all of them."
            )

    def _share_randomness(self, loader: Any) -> None:
        """Set all ranks' generators to rank 0's state, so that all shuffle alike."""
        generators = randomness.loader_generators(loader)
        own_states = [generator.get_state() for generator in generators]
        group = rank_group.current
        assert group is not None
        group.meet(group.call_site("the begin of a loop over a loader", sys._getframe(1)))
        first = (randomness.get_state(), own_states) if self._rank == 0 else None
        boxes = group.gather((_size(loader), first))
        for rank, (size, _) in enumerate(boxes):
            if size != boxes[0][0]:
                raise RanksDiverged(
                    f"the data differ between the ranks: rank 0 has {boxes[0][0][0]} samples in {boxes[0][0][1]} "
                    f"batches, rank {rank} has {size[0]} in {size[1]}. All must have the whole data, of which mlnb "
                    "gives each its part; --parallel none leaves that to the code"
                )
        if self._rank == 0:
            return
        state, states = boxes[0][1]
        randomness.set_state({**state, "cuda": None})  # loaders use CPU generators only
        for generator, generator_state in zip(generators, states, strict=True):
            generator.set_state(generator_state)


def _is_stream(loader: Any) -> bool:
    """Whether a loader has no batches of indices that could be divided."""
    return isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None


def _size(loader: Any) -> tuple[int, int] | None:
    """How many samples and batches a loader has; ``None`` if that is not known."""
    if _is_stream(loader):
        return None
    try:
        return len(loader.dataset), len(loader.batch_sampler)
    except TypeError:  # has no length
        return None


def _samples(batch: Any) -> int:
    """Return the number of samples in a collated batch."""
    while isinstance(batch, (list, tuple, dict)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if hasattr(batch, "__len__") else 1
