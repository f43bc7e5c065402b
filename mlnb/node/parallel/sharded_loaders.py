"""Shards the loaders of a plain loop: in each step, N ranks draw what one process with N times the batch size would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from mlnb.node import torch_private
from mlnb.node.parallel.batch_sharding import ShardedBatches, shard_stream
from mlnb.node.parallel.generators.rank_noise import RankNoise
from mlnb.node.parallel.together import rank_group
from mlnb.node.parallel.training_mode import TrainingMode
from mlnb.node.rank import randomness
from mlnb.node.rank.patches import Patches

_SHARD, _SHARDED = "_mlnb_shard", "_mlnb_sharded"  # attributes of a loader: its ShardedBatches; whether it trains
_LENGTH_AS_TRAINING = "_mlnb_length_as_training"  # whether len() was asked first, with gradients enabled


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
        called after the last batch of a loop.
    backwards
        returns how often gradients were averaged.
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
        end_batches: Callable[[], None],
        backwards: Callable[[], int],
        add_note: Callable[[str], None],
    ) -> None:
        self._rank, self._world, self._is_plain, self._begin_batch = rank, world, is_plain, begin_batch
        self._end_batches = end_batches
        self._synchronize, self._backwards, self._add_note = synchronize, backwards, add_note
        self._mode = TrainingMode()
        self._noise = RankNoise(rank)
        self.has_sharded = False
        """Whether a loader was sharded."""
        self.batch_size: int | None = None
        """That of the last loader that was sharded."""

    def install(self, patches: Patches) -> None:
        """Wrap ``DataLoader``."""
        self._mode.install(patches)
        self._noise.install(patches)
        patches.wrap(DataLoader, "__iter__", self._wrap_iter)
        original_index = torch_private.index_sampler_property()

        def index_sampler(loader: Any) -> Any:
            """The loader's batches: this rank's part if it is for training, otherwise all of them."""
            own = original_index.__get__(loader)
            if not self._is_plain() or loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
                return own
            trains = loader.__dict__.get(_SHARDED)
            if trains is None:  # len() before it is iterated: decided as an iteration here would be
                trains = self._is_for_training(loader)
                loader.__dict__[_LENGTH_AS_TRAINING] = trains
            if trains:
                return self._shard(loader)
            return self._noise.shared(own, trains=False) if self._noise.is_apart else own

        patches.set(DataLoader, torch_private.INDEX_SAMPLER, property(index_sampler))

    def _wrap_iter(self, original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def iterate(loader: Any) -> Iterator[Any]:
            if not self._is_plain():
                return original(loader)
            if not self._is_for_training(loader):
                self._note_wrong_length(loader)
                loader.__dict__[_SHARDED] = False
                with self._noise.together():
                    return original(loader)
            loader.__dict__.pop(_LENGTH_AS_TRAINING, None)
            self.has_sharded = True
            self.batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
            is_stream = isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None
            loader.__dict__[_SHARDED] = True
            with self._noise.together():
                self._synchronize()
                self._share_randomness(loader)
                if is_stream or torch_private.has_persistent_iterator(loader):
                    iterator = original(loader)
                else:
                    with self._noise.worker_seeds(loader):
                        iterator = original(loader)
            return self._iterate_stream(iterator) if is_stream else self._iterate_sharded(iterator, self._shard(loader))

        return iterate

    def _note_wrong_length(self, loader: Any) -> None:
        """Tell if ``len(loader)``, asked before, was that of a training loader, and the loader is none."""
        if loader.__dict__.pop(_LENGTH_AS_TRAINING, False):
            self._add_note(
                f"len() of a loader was asked with gradients enabled: its batches divided by {self._world} ranks. "
                "But its loop runs under torch.no_grad(), with all of them: ask for its length there, too."
            )

    def _is_for_training(self, loader: Any) -> bool:
        return (
            torch.is_grad_enabled()
            and not isinstance(loader.sampler, DistributedSampler)
            and not self._mode.is_evaluation()
        )

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

    def _iterate_sharded(self, iterator: Iterator[Any], shard: ShardedBatches) -> Iterator[Any]:
        before = self._backwards()
        self._noise.begin_loop()
        try:
            for batch in iterator:
                self._noise.go_apart()
                self._begin_batch(batch, shard.weights.popleft())
                yield batch
        finally:
            self._end_of_loop(before)

    def _iterate_stream(self, iterator: Iterator[Any]) -> Iterator[Any]:
        before = self._backwards()
        self._noise.begin_loop()
        try:
            draws = self._noise.shared(iterator, trains=True)  # all ranks draw all batches of the stream
            for batch, weight in shard_stream(draws, self._rank, self._world, _samples):
                self._begin_batch(batch, weight)
                yield batch
        finally:
            self._end_of_loop(before)

    def _end_of_loop(self, backwards_before: int) -> None:
        self._end_batches()
        self._noise.end_loop()
        if self._backwards() == backwards_before:
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
        box = group.gather((randomness.get_state(), own_states) if self._rank == 0 else None)[0]
        if self._rank == 0:
            return
        state, states = box
        randomness.set_state({**state, "cuda": None})  # loaders use CPU generators only
        for generator, generator_state in zip(generators, states, strict=True):
            generator.set_state(generator_state)


def _samples(batch: Any) -> int:
    """Return the number of samples in a collated batch."""
    while isinstance(batch, (list, tuple, dict)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if hasattr(batch, "__len__") else 1
