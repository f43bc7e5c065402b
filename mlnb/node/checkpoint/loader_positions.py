"""Where an epoch's training loaders are, so that a run can stop between two batches and go on behind them.

The place is that of the loader which is asked first for a batch, the one whose loop the others are in. It can be
left where its last batch led to an optimizer's step (no gradients wait), nothing was drawn ahead, and there is a batch
to go on with: a loop that found none would leave its variables unset.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset

from mlnb.node import torch_private
from mlnb.node.checkpoint.stop_consensus import Agreement
from mlnb.node.parallel.batch_sharding import ShardedBatches
from mlnb.node.rank import log, randomness, stop

States = tuple[dict[str, Any], list[torch.Tensor]]
"""Of the process's random number generators, and of those that a loader has of its own."""

backwards: Callable[[], int] | None = None
"""How often ``backward()`` was called in this process, where someone counts."""

_current: Places | None = None
_installed = False


class Place:
    """Where one iteration of a training loader is."""

    def __init__(self, loader: Any, inside: bool, world: int, saved: dict[str, Any] | None) -> None:
        saved = {} if saved is None or saved["whole"] else saved
        self._generators = randomness.loader_generators(loader)
        self._draws_ahead = loader.num_workers > 0
        self.inside = inside
        """Whether it was begun in another's loop."""
        self.resumes = bool(saved)
        self._samples = world * (loader.batch_size or 1)  # in a batch, over all ranks
        self.behind: int = saved.get("behind", 0) * saved.get("samples", 0) // self._samples
        """Batches that were drawn from it, on each rank."""
        self.done: bool = saved.get("done", False)
        self.whole = False
        """Whether it was iterated without training: nothing that would have to be gone behind."""
        self.led: bool = saved.get("led", False)
        """Whether the checkpoint to go on from was made where this loader was asked for a batch."""
        self._start: States | None = saved.get("start")
        self.first: States | None = saved.get("first")
        self._now: list[torch.Tensor] = saved.get("now", [])

    def begin(self) -> States:
        """Have the generators as they were, or are, when the iterator is made; returns how they are now."""
        now = self._states()
        if self.resumes and self._start is not None:
            self.put(self._start)
        else:
            self._start = now
        return now

    def begin_to_draw(self, skip: Callable[[], None], at: dict[str, Any]) -> None:
        """Note how the generators are before the first batch is drawn.

        If it resumes, have them as they were then, skip what is behind, and put them back to how they are now; for the
        loader that led to the checkpoint, now is how they were there (``at``).
        """
        if not self.resumes or self.first is None:
            self.first = self._states()
            return
        before = at if self.led else randomness.get_state(devices=False)
        self.put(self.first)
        skip()
        randomness.set_state(before)
        if not self._draws_ahead:
            self._put_own(self._now)
        self.resumes = False

    def _states(self) -> States:
        """How the generators are now."""
        return randomness.get_state(devices=False), [one.get_state() for one in self._generators]

    def put(self, states: States) -> None:
        """Set the generators."""
        randomness.set_state(states[0])
        self._put_own(states[1])

    def _put_own(self, states: list[torch.Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=False):  # the code may have changed
            generator.set_state(state)

    def to_save(self, leads: bool) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "behind": self.behind,
            "samples": self._samples,
            "done": self.done,
            "whole": self.whole,
            "led": leads,
            "start": self._start,
            "first": self.first,
            "now": [one.get_state() for one in self._generators],
        }


class Places:
    """The training loaders of one epoch, in the order in which they were iterated.

    Parameters
    ----------
    name
        of the epoch, the same on all ranks.
    world
        how many ranks there are.
    save
        makes a checkpoint: takes the batches behind it in this epoch and what goes into it, and ends the run if that
        was asked for.
    resumed
        what was saved of the epoch that an earlier attempt was in.
    seconds
        after which a checkpoint is made without being asked for.
    """

    def __init__(
        self,
        name: str,
        world: int,
        save: Callable[[int, dict[str, Any]], None],
        resumed: dict[str, Any] | None,
        seconds: float,
    ) -> None:
        self._name, self._world, self._save, self._seconds = name, world, save, seconds
        self._saved: deque[dict[str, Any]] = deque()
        if resumed is not None:
            randomness.set_state(resumed["within"]["begun"])
            self._saved.extend(resumed["within"]["places"])
        self._begun = randomness.get_state()
        self._at = self._begun if resumed is None else resumed["randomness"]
        self._metrics = log.current
        self._places: list[Place] = []
        self._lead: Place | None = None
        self._lead_step = 0
        self._ahead = False  # it was asked for its second batch before its first was trained on
        self._over = False  # an earlier one led to steps: its loop would find nothing to go on with
        self._loading = False
        self._agreement: Agreement | None = None
        self._agreements = 0
        self._due = monotonic() + seconds
        self.making: Place | None = None
        """Whose iterator is being made."""

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the loaders that are iterated meanwhile."""
        global _current
        _install()
        _current, pid = self, os.getpid()
        stop.allow_checkpoint_after_batch(lambda: self._trains() and os.getpid() == pid)
        try:
            yield
        finally:
            stop.allow_checkpoint_after_batch(None)
            _current = None
            self._end_of_lead()

    def _trains(self) -> bool:
        """Whether a checkpoint could be made behind the batch that is being trained on."""
        return self._lead is not None and not self._ahead and self._metrics.step > self._lead_step

    def follows(self) -> bool:
        """Whether the loader that is about to be iterated here is one for training, and no part of another."""
        return torch.is_grad_enabled() and not self._loading and threading.current_thread() is threading.main_thread()

    def follow(self, loader: Any, iterate: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        """The batches of ``loader``, those behind the checkpoint left out."""
        saved = self._saved.popleft() if self._saved else None
        place = Place(loader, self._lead is not None, self._world, saved)
        self._places.append(place)
        if place.done:
            return iter(())
        stream = isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None
        resumes = place.resumes
        now = place.begin()
        self.making, self._loading = None if stream else place, True
        try:
            iterator = iter(iterate(loader))
        finally:
            self.making, self._loading = None, False
        if resumes and not place.led:
            place.put(now)
        return self._follow(place, iterator, stream)

    def draw(self, place: Place, batches: Iterator[Any], weights: deque[float]) -> Iterator[Any]:
        """Batches of indices, from where the attempt before was."""

        def skip() -> None:
            for _ in range(place.behind):
                next(batches, None)
            weights.clear()

        place.begin_to_draw(skip, self._at)
        yield from batches

    def _follow(self, place: Place, iterator: Iterator[Any], stream: bool) -> Iterator[Any]:
        metrics, following, number = self._metrics, iterator.__next__, 0
        counted = backwards() if backwards is not None else 0
        step = metrics.step
        self._advance(place)
        try:
            if stream:
                place.begin_to_draw(lambda: self._drop(iterator, place.behind), self._at)
            while True:
                within = None
                if (stop.stop_requested() or monotonic() >= self._due) and self._may_stop(place, step):
                    within = self._to_save()
                self._loading = True
                try:
                    batch = following()
                except StopIteration:
                    return
                finally:
                    self._loading = False
                if number == 1 and (backwards is None or backwards() == counted):
                    self._ahead = self._ahead or place is self._lead
                elif within is not None:
                    self._stop_here(place, within)
                number += 1
                place.behind += 1
                step = metrics.step
                yield batch
        finally:
            self._finish(place)

    def _drop(self, iterator: Iterator[Any], count: int) -> None:
        self._loading = True
        for _ in range(count):
            next(iterator, None)
        self._loading = False

    def _may_stop(self, place: Place, step: int) -> bool:
        return place is self._lead and not self._ahead and self._metrics.step > step

    def _advance(self, place: Place) -> None:
        if self._lead is None and not self._over:
            self._lead, self._lead_step, self._ahead = place, self._metrics.step, False

    def _finish(self, place: Place) -> None:
        place.done = True
        if place is self._lead:
            place.whole = self._metrics.step == self._lead_step
            self._end_of_lead()
        elif place.inside:
            self._places.remove(place)

    def _end_of_lead(self) -> None:
        self._over = self._over or (self._lead is not None and self._metrics.step > self._lead_step)
        self._lead = None
        if self._agreement is not None:
            self._agreement.leave()

    def _to_save(self) -> dict[str, Any]:
        places = [place for place in self._places if place.first is not None or not place.inside]
        return {
            "randomness": randomness.get_state(),
            "within": {
                "begun": self._begun,
                "places": [place.to_save(place is self._lead) for place in places],
            },
        }

    def _stop_here(self, place: Place, own: dict[str, Any]) -> None:
        if self._agreement is None:
            self._agreement = Agreement.of_group(f"{self._name}/{self._agreements}")
        self._metrics.flush()  # before any rank makes the checkpoint: its curve must not end in front of it
        if self._agreement.at(self._metrics.step):
            self._agreement = None
            self._agreements += 1
            self._save(place.behind, own)
            self._due = monotonic() + self._seconds


class _Batches:
    """A loader's batches of indices, from where it was on."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        places, batches = _current, iter(self._batches)
        if places is None or places.making is None:  # kept by a loader whose workers stay, and not for training now
            return cast(Iterator[Any], batches)
        weights = self._batches.weights if isinstance(self._batches, ShardedBatches) else deque()
        return places.draw(places.making, batches, weights)


def _forget() -> None:
    global _current
    _current = None


def _install() -> None:
    """Wrap loaders, once, on top of whoever else has."""
    global _installed
    if _installed:
        return
    _installed = True
    os.register_at_fork(after_in_child=_forget)  # a process that is forked from a rank is none
    original_iter, original_index = DataLoader.__iter__, torch_private.index_sampler_property()

    @functools.wraps(original_iter)
    def iterate(loader: Any) -> Iterator[Any]:
        places = _current
        if places is None or not places.follows():
            return original_iter(loader)
        return places.follow(loader, original_iter)

    def index_sampler(loader: Any) -> Any:
        batches = original_index.__get__(loader)
        return batches if _current is None or _current.making is None else _Batches(batches)

    DataLoader.__iter__ = iterate  # type: ignore[method-assign, assignment]
    setattr(DataLoader, torch_private.INDEX_SAMPLER, property(index_sampler))
