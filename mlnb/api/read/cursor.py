"""Reads only what is new of a run's metrics: for views, trackers, and whatever else follows a run.

    cursor = SeriesCursor()
    while True:
        done = run.done  # before the metrics: those of a run that has ended are complete
        for update in cursor.new(run.series(), settled=not done):
            print(update.metric, update.steps, update.values)
        if done:
            break
        time.sleep(1)

``docs/contributing/add-a-tracker.md`` makes a tracker of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlnb.api.read.decimate import selection
from mlnb.api.read.growable import Array
from mlnb.api.read.history import Series


@dataclass(frozen=True)
class SeriesUpdate:
    """New points of one metric. They replace what the reader holds of it from ``offset`` on: ``held[offset:] = new``.

    ``offset`` is how many points the reader already holds, or less: points that not all ranks had reported may change,
    and a run that was resumed from a checkpoint is sent again from 0.

    Attributes
    ----------
    times, steps, values
        of shape (n,); times in seconds since the epoch. ``n`` is 0 if points were only withdrawn.
    total
        how many points were logged in all; a reader that asked for decimated ones holds fewer.
    """

    metric: str
    offset: int
    times: Array
    steps: Array
    values: Array
    total: int


@dataclass
class _Position:
    """How much of one metric was returned and can't change: ``logged`` points, decimated to ``sent``."""

    series: Series | None = None
    generation: int = -1
    logged: int = 0
    sent: int = 0
    open_sent: bool = False
    """Whether points that may still change were returned after those."""


class SeriesCursor:
    """Remembers what one reader has of the metrics of one run. Each reader has its own cursor.

    Parameters
    ----------
    pixels
        how wide the reader's chart is: more than five times as many points at once are decimated, so that they make the
        same picture (:func:`mlnb.api.read.decimate.decimate`). ``None``: every point.
    """

    def __init__(self, pixels: int | None = None) -> None:
        self._pixels = pixels
        self._positions: dict[str, _Position] = {}

    def new(self, series: Mapping[str, Series], *, settled: bool = False) -> list[SeriesUpdate]:
        """What the reader does not have yet; after this call it does.

        Parameters
        ----------
        series
            what :meth:`mlnb.api.run.Run.series` (or ``all_series``) returns now.
        settled
            leave out points that may still change since not every rank has reported them: for readers that can't
            withdraw points. Call without it once the run has ended.
        """
        for name in set(self._positions) - set(series):
            del self._positions[name]
        updates = []
        for name, metric in series.items():
            position = self._positions.setdefault(name, _Position())
            update = self._advance(position, name, metric, settled=settled)
            updates += [update] if update else []
        return updates

    def _advance(self, position: _Position, name: str, series: Series, *, settled: bool) -> SeriesUpdate | None:
        if series is position.series and (settled or position.open_sent or series.stable == len(series)):
            return None
        restarted = series.generation != position.generation
        if restarted:
            position.logged = position.sent = 0
        parts = [self._select(series, position.logged, series.stable)]
        if not settled:
            parts.append(self._select(series, series.stable, len(series)))
        times, steps, values = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        update = SeriesUpdate(name, position.sent, times, steps, values, len(series))
        position.series, position.generation, position.logged = series, series.generation, series.stable
        position.sent += len(parts[0][0])
        position.open_sent = not settled
        return update if restarted or len(steps) else None

    def _select(self, series: Series, start: int, end: int) -> tuple[Array, Array, Array]:
        times, steps, values = (column[start:end] for column in (series.time, series.step, series.value))
        if self._pixels is None:
            return times, steps, values
        keep = selection(values, self._pixels)
        return times[keep], steps[keep], values[keep]
