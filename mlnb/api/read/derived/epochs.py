"""The epochs of a run as series: the mean of each metric and the duration, by the number of the epoch.

Their steps are the numbers of the epochs, from 0. The epochs are those of ``mlnb.epochs``, else the passes over the
data of the training loader.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlnb.api.read.derived.speed import SPEED_METRICS
from mlnb.api.read.growable import Array
from mlnb.api.read.history import RESERVED, Series
from mlnb.node.rank.log import EPOCHS, PASSES, PROGRESS

EPOCH = "mlnb.epoch."
"""The prefix of the mean of a metric."""

SECONDS = "mlnb.epoch_seconds"
"""How long each epoch took; of one that has not ended there is none."""


@dataclass(frozen=True)
class _Bounds:
    """Where epochs begin and end.

    Attributes
    ----------
    numbers
        of the epochs that have begun.
    begins, ends, last_steps
        time of the beginning of each; time and step of the end of each that has ended: the last may not have.
    idle
        seconds within each between two attempts.
    """

    source: Series
    numbers: Array
    begins: Array
    ends: Array
    last_steps: Array
    idle: Array


@dataclass
class _Means:
    """The means of one metric. What belongs to epochs that have ended is added up once."""

    generations: tuple[int, int] = (-1, -1)
    first: int = 0
    ends: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    added: int = 0
    total: float = 0.0
    read: tuple[Series, _Bounds] | None = None
    made: Series | None = None

    def update(self, metric: Series, bounds: _Bounds) -> Series | None:
        """The series of means; the same object if nothing is new."""
        if self.read is not None and self.read[0] is metric and self.read[1] is bounds:
            return self.made
        generations = (metric.generation, bounds.source.generation)
        if generations != self.generations or len(self.ends) > len(bounds.ends) or self.added > len(metric):
            self.generations, self.ends, self.means = generations, [], []
            self.first = int(np.searchsorted(metric.time, bounds.begins[0]))
            self.added, self.total = self.first, 0.0
        self.read = (metric, bounds)
        with np.errstate(invalid="ignore"):
            self._end_epochs(metric, bounds)
            means = [*self.means, self._open_mean(metric)]
        numbers = bounds.numbers[: len(means)]
        values = np.array(means[: len(numbers)])
        has_points = np.diff([self.first, *self.ends, len(metric)][: len(numbers) + 1]) > 0
        stable = int(has_points[: max(0, len(self.ends) - 1)].sum())
        self.made = _series(numbers[has_points], values[has_points], 100_000 * generations[0] + generations[1], stable)
        return self.made

    def _end_epochs(self, metric: Series, bounds: _Bounds) -> None:
        """Find the points of the epochs that have ended; of the newest once more, for points that came late."""
        for number in range(max(0, len(self.ends) - 1), len(bounds.ends)):
            begin = self.ends[number - 1] if number else self.first
            end = max(begin, int(np.searchsorted(metric.time, bounds.ends[number], "right")))
            while end < len(metric) and metric.step[end] == bounds.last_steps[number]:
                end += 1  # a rank that waited for another has gone on before that one logged its last value
            if number < len(self.ends) and self.ends[number] == end:
                continue
            del self.ends[number:], self.means[number:]
            self.ends.append(end)
            self.means.append(float(metric.value[begin:end].mean()) if end > begin else np.nan)
            self.added, self.total = end, 0.0

    def _open_mean(self, metric: Series) -> float:
        begin = self.ends[-1] if self.ends else self.first
        settled = max(self.added, min(metric.stable, len(metric)))
        self.total += float(metric.value[self.added : settled].sum())
        self.added = settled
        count = len(metric) - begin
        return (self.total + float(metric.value[settled:].sum())) / count if count > 0 else np.nan


class Epochs:
    """Makes the series of one run's epochs; each call of :meth:`series` costs what is new. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds: _Bounds | None = None
        self._seconds: Series | None = None
        self._means: dict[str, _Means] = {}

    def series(self, every: Mapping[str, Series]) -> dict[str, Series]:
        """The series of the epochs among all series of the run; none if its epochs are not known."""
        with self._lock:
            bounds = self._find(every)
            return {} if bounds is None else self._make(bounds, every)

    def _make(self, bounds: _Bounds, every: Mapping[str, Series]) -> dict[str, Series]:
        if bounds is not self._bounds:
            if self._bounds is not None and bounds.source.generation != self._bounds.source.generation:
                self._means = {}
            self._bounds = bounds
            ended = len(bounds.ends)
            seconds = bounds.ends - bounds.begins[:ended] - bounds.idle[:ended]
            self._seconds = _series(bounds.numbers[:ended], seconds, bounds.source.generation, ended)
        made = {} if self._seconds is None else {SECONDS: self._seconds}
        for name, metric in every.items():
            if name not in SPEED_METRICS and not name.startswith(RESERVED) and len(metric):
                means = self._means.setdefault(name, _Means()).update(metric, bounds)
                if means is not None and len(means):
                    made[EPOCH + name] = means
        return made

    def _find(self, every: Mapping[str, Series]) -> _Bounds | None:
        source = every.get(PROGRESS, every.get(PASSES))
        if source is None or not len(source):
            return None
        if self._bounds is not None and self._bounds.source is source:
            return self._bounds
        return _of_progress(source, every) if PROGRESS in every else _of_passes(source)


def _of_progress(progress: Series, every: Mapping[str, Series]) -> _Bounds | None:
    """``mlnb.epochs`` logs how much is done when it begins and after each epoch, and an attempt that resumes, again."""
    count = every.get(EPOCHS)
    if count is None or not len(count):
        return None
    done = np.rint(progress.value * count.value[-1])
    ends = np.flatnonzero(done[1:] > done[:-1]) + 1
    resumes = np.flatnonzero(done[1:] <= done[:-1]) + 1
    begins = np.r_[0, ends]
    over = len(begins) if done[-1] < count.value[-1] else len(ends)
    if not over:
        return None
    idle = np.zeros(len(begins))
    times = max((metric.time for name, metric in every.items() if not name.startswith(RESERVED)), key=len, default=None)
    for resume in resumes:
        epoch = int(np.searchsorted(ends, resume, "right"))
        before = int(np.searchsorted(times, progress.time[resume])) if times is not None else 0
        last = times[before - 1] if times is not None and before else progress.time[resume - 1]
        idle[epoch] += max(0.0, progress.time[resume] - max(last, progress.time[begins[epoch]]))
    return _Bounds(
        progress,
        done[begins][:over],
        progress.time[begins][:over],
        progress.time[ends],
        progress.step[ends],
        idle,
    )


def _of_passes(passes: Series) -> _Bounds:
    """Each pass logs its number when it begins; the last time counts, since a loader may be looked into before."""
    last = np.flatnonzero(np.diff(passes.value, append=np.inf) != 0)
    begins = passes.time[last]
    return _Bounds(passes, passes.value[last], begins, begins[1:], passes.step[last][1:], np.zeros(len(last)))


def _series(numbers: Array, values: Array, generation: int, stable: int) -> Series:
    zeros = np.zeros(len(numbers))
    return Series(zeros, numbers, values, zeros.astype(np.int16), generation, max(0, min(stable, len(numbers))))
