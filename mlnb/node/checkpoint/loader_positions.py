"""Tracks the positions of an epoch's training loaders, so that a run can stop after any batch and resume there.

The *leading* loader is the one that is asked first for a batch; other training loaders are iterated inside of its loop.
A checkpoint can be made when the leading loader is asked for the next batch, if its last batch led to an optimizer step
(so that no gradients are pending) and no batch was drawn ahead. It is made only if there is a next batch: otherwise,
after a resume, the loop would have no batch and leave its variables unset.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset

from mlnb.node import torch_private
from mlnb.node.checkpoint.stop_consensus import StopConsensus
from mlnb.node.parallel.batch_sharding import ShardedBatches
from mlnb.node.rank import log, randomness, stop

if TYPE_CHECKING:
    from mlnb.node.checkpoint.variables import Variables

States = tuple[dict[str, Any], list[torch.Tensor]]
"""States of the process's random number generators, and of those that a loader owns."""

count_backwards: Callable[[], int] | None = None
"""Returns the number of ``backward()`` calls in this process; ``None`` where they are not counted."""

_current: LoaderPositions | None = None
_installed = False


class LoaderPosition:
    """The position of one iteration of a training loader.

    Parameters
    ----------
    loader
        a ``DataLoader``.
    nested
        whether it is iterated inside of another's loop.
    world
        how many ranks there are.
    saved
        what :meth:`to_save` returned for it in the checkpoint that the run resumes from.
    """

    def __init__(self, loader: Any, nested: bool, world: int, saved: dict[str, Any] | None) -> None:
        saved = {} if saved is None or saved["whole"] else saved
        self._generators = randomness.loader_generators(loader)
        self._draws_ahead = loader.num_workers > 0
        self.nested = nested
        self.resumes = bool(saved)
        self._samples = world * (loader.batch_size or 1)  # in a batch, over all ranks
        self.batches_done: int = saved.get("behind", 0) * saved.get("samples", 0) // self._samples
        """Batches that were drawn from it, on each rank."""
        self.done: bool = saved.get("done", False)
        self.without_training = False
        """Whether it was iterated to its end without a step: a resumed run iterates it again."""
        self.led: bool = saved.get("led", False)
        """Whether it was the leading loader when the checkpoint was made."""
        self._start: States | None = saved.get("start")
        self.first_draw: States | None = saved.get("first")
        self._now: list[torch.Tensor] = saved.get("now", [])

    def begin(self) -> States:
        """Set the generators to their states when the iterator was created, if it resumes; return the states before."""
        now = self._states()
        if self.resumes and self._start is not None:
            self.set_states(self._start)
        else:
            self._start = now
        return now

    def begin_to_draw(self, skip: Callable[[], None], checkpoint_state: dict[str, Any]) -> None:
        """Record the generators' states before the first batch is drawn.

        If it resumes, set them to the recorded states instead, call ``skip`` to skip the batches that are done, and
        restore them; for the leading loader, restore them to how they were at the checkpoint.
        """
        if not self.resumes or self.first_draw is None:
            self.first_draw = self._states()
            return
        after = checkpoint_state if self.led else randomness.get_state(devices=False)
        self.set_states(self.first_draw)
        skip()
        randomness.set_state(after)
        if not self._draws_ahead:
            self._set_own(self._now)
        self.resumes = False

    def _states(self) -> States:
        return randomness.get_state(devices=False), [generator.get_state() for generator in self._generators]

    def set_states(self, states: States) -> None:
        """Set the generators' states."""
        randomness.set_state(states[0])
        self._set_own(states[1])

    def _set_own(self, states: list[torch.Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=False):  # the code may have changed
            generator.set_state(state)

    def to_save(self, leads: bool) -> dict[str, Any]:
        """Return it in the format of checkpoint files (old ones must still load)."""
        return {
            "behind": self.batches_done,
            "samples": self._samples,
            "done": self.done,
            "whole": self.without_training,
            "led": leads,
            "start": self._start,
            "first": self.first_draw,
            "now": [generator.get_state() for generator in self._generators],
        }


class LoaderPositions:
    """The training loaders of one epoch, in the order in which they were iterated.

    Parameters
    ----------
    name
        of the epoch, the same on all ranks.
    world
        how many ranks there are.
    save
        makes a checkpoint from the number of batches that are done in this epoch and the rank's own state, and ends the
        run if that was requested.
    resumed
        the rank's own state in the checkpoint of this epoch that the run resumes from; ``None`` if there is none.
    seconds
        after which a checkpoint is made without a request.
    variables
        those of the loop over epochs.
    """

    def __init__(
        self,
        name: str,
        world: int,
        save: Callable[[int, dict[str, Any]], None],
        resumed: dict[str, Any] | None,
        seconds: float,
        variables: Variables | None = None,
    ) -> None:
        self._name, self._world, self._save, self._seconds = name, world, save, seconds
        self._variables = variables
        self._saved_variables: dict[str, Any] | None = None if resumed is None else resumed["within"].get("variables")
        self._saved: deque[dict[str, Any]] = deque()
        if resumed is not None:
            randomness.set_state(resumed["within"]["begun"])
            self._saved.extend(resumed["within"]["places"])
        self._epoch_start = randomness.get_state()
        self._checkpoint_state = self._epoch_start if resumed is None else resumed["randomness"]
        self._metrics = log.current
        self._positions: list[LoaderPosition] = []
        self._leading: LoaderPosition | None = None
        self._leading_start = 0  # the step at which the leading loader was begun
        self._drawn_ahead = False  # the leading loader was asked for its second batch before its first was trained on
        self._trained = False  # an earlier leading loader led to steps: after a resume its loop would find no batch
        self._loading = False  # a loader is drawing: what it iterates is not a training loader
        self._consensus: StopConsensus | None = None
        self._consensus_count = 0
        self._due = monotonic() + seconds
        self.creating: LoaderPosition | None = None
        """The loader whose iterator is being created."""

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Track the loaders that are iterated inside of this block."""
        global _current
        _install()
        _current, pid = self, os.getpid()
        stop.allow_checkpoint_after_batch(lambda: self._is_training() and os.getpid() == pid)
        try:
            yield
        finally:
            stop.allow_checkpoint_after_batch(None)
            _current = None
            self._end_leading()

    def _is_training(self) -> bool:
        """Whether a checkpoint can be made after the batch in training."""
        return self._leading is not None and not self._drawn_ahead and self._metrics.step > self._leading_start

    def tracks_next(self) -> bool:
        """Whether a loader that is iterated now is a training loader, and not used by another loader."""
        return torch.is_grad_enabled() and not self._loading and threading.current_thread() is threading.main_thread()

    def track(self, loader: Any, iterate: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """Return the batches of ``loader`` (``iterate(loader)``), without those done before the checkpoint."""
        saved = self._saved.popleft() if self._saved else None
        position = LoaderPosition(loader, self._leading is not None, self._world, saved)
        self._positions.append(position)
        if position.done:
            return iter(())
        stream = isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None
        resumes = position.resumes
        now = position.begin()
        self.creating, self._loading = None if stream else position, True
        try:
            iterator = iter(iterate(loader))
        finally:
            self.creating, self._loading = None, False
        if resumes and not position.led:
            position.set_states(now)
        return self._iterate(position, iterator, stream)

    def draw(self, position: LoaderPosition, batches: Iterator[Any], weights: deque[float]) -> Iterator[Any]:
        """Yield batches of indices, without those done before the checkpoint."""

        def skip() -> None:
            for _ in range(position.batches_done):
                next(batches, None)
            weights.clear()

        position.begin_to_draw(skip, self._checkpoint_state)
        yield from batches

    def _iterate(self, position: LoaderPosition, iterator: Iterator[Any], stream: bool) -> Iterator[Any]:
        metrics, next_batch, number = self._metrics, iterator.__next__, 0
        backwards_before = count_backwards() if count_backwards is not None else 0
        step = metrics.step
        self._lead_if_first(position)
        try:
            if stream:
                position.begin_to_draw(lambda: self._skip(iterator, position.batches_done), self._checkpoint_state)
            while True:
                state = None
                if (stop.stop_requested() or monotonic() >= self._due) and self._can_checkpoint(position, step):
                    state = self._rank_state()
                self._loading = True
                try:
                    batch = next_batch()
                except StopIteration:
                    return
                finally:
                    self._loading = False
                if number == 1 and (count_backwards is None or count_backwards() == backwards_before):
                    self._drawn_ahead = self._drawn_ahead or position is self._leading
                elif state is not None:
                    self._checkpoint(position, state)
                if number == 0 and position.led:
                    self._restore_variables()
                number += 1
                position.batches_done += 1
                step = metrics.step
                yield batch
        finally:
            self._finish(position)

    def _restore_variables(self) -> None:
        """Give the loop's variables their values after the last batch before the checkpoint, once."""
        saved, self._saved_variables = self._saved_variables, None
        if self._variables is not None and saved is not None:
            self._variables.restore(saved, sys._getframe())

    def _skip(self, iterator: Iterator[Any], count: int) -> None:
        self._loading = True
        try:
            for _ in range(count):
                next(iterator, None)
        finally:
            self._loading = False

    def _can_checkpoint(self, position: LoaderPosition, step: int) -> bool:
        return position is self._leading and not self._drawn_ahead and self._metrics.step > step

    def _lead_if_first(self, position: LoaderPosition) -> None:
        if self._leading is None and not self._trained:
            self._leading, self._leading_start, self._drawn_ahead = position, self._metrics.step, False

    def _finish(self, position: LoaderPosition) -> None:
        position.done = True
        if position is self._leading:
            position.without_training = self._metrics.step == self._leading_start
            self._end_leading()
        elif position.nested:
            self._positions.remove(position)

    def _end_leading(self) -> None:
        self._trained = self._trained or (self._leading is not None and self._metrics.step > self._leading_start)
        self._leading = None
        if self._consensus is not None:
            self._consensus.leave()

    def _rank_state(self) -> dict[str, Any]:
        """Return this rank's part of a checkpoint, in the format of checkpoint files (old ones must still load)."""
        positions = [position for position in self._positions if position.first_draw is not None or not position.nested]
        return {
            "randomness": randomness.get_state(),
            "within": {
                "begun": self._epoch_start,
                "places": [position.to_save(position is self._leading) for position in positions],
                "variables": None if self._variables is None else self._variables.save(sys._getframe()),
            },
        }

    def _checkpoint(self, position: LoaderPosition, state: dict[str, Any]) -> None:
        """Make a checkpoint here if all ranks are at the same step; else wait for a later one."""
        if self._consensus is None:
            self._consensus = StopConsensus.of_group(f"{self._name}/{self._consensus_count}")
        self._metrics.flush()  # before any rank makes the checkpoint: its curve must not end before it
        if self._consensus.stops_at(self._metrics.step):
            self._consensus = None
            self._consensus_count += 1
            self._save(position.batches_done, state)
            self._due = monotonic() + self._seconds


class _TrackedBatches:
    """A loader's batches of indices, without those done before the checkpoint."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        positions, batches = _current, iter(self._batches)
        if positions is None or positions.creating is None:  # kept by persistent workers, and not for training now
            return cast(Iterator[Any], batches)
        weights = self._batches.weights if isinstance(self._batches, ShardedBatches) else deque()
        return positions.draw(positions.creating, batches, weights)


def _stop_tracking() -> None:
    global _current
    _current = None


def _install() -> None:
    """Wrap loaders, once, on top of other wrappers."""
    global _installed
    if _installed:
        return
    _installed = True
    os.register_at_fork(after_in_child=_stop_tracking)  # a process that is forked from a rank is not a rank
    original_iter, original_index = DataLoader.__iter__, torch_private.index_sampler_property()

    @functools.wraps(original_iter)
    def iterate(loader: Any) -> Iterator[Any]:
        positions = _current
        if positions is None or not positions.tracks_next():
            return original_iter(loader)
        return positions.track(loader, original_iter)

    def index_sampler(loader: Any) -> Any:
        batches = original_index.__get__(loader)
        return batches if _current is None or _current.creating is None else _TrackedBatches(batches)

    DataLoader.__iter__ = iterate  # type: ignore[method-assign, assignment]
    setattr(DataLoader, torch_private.INDEX_SAMPLER, property(index_sampler))
