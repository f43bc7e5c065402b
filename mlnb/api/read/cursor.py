"""Reads only the new points of a run's metrics, for views, trackers and other programs that follow a run.

    cursor = SeriesCursor()
    while True:
        done = run.done  # before the metrics: so those of an ended run are complete
        for update in cursor.new(run.series(), settled=not done):
            print(update.metric, update.steps, update.values)
        if done:
            break
        time.sleep(1)

``docs/contributing/add-a-tracker.md`` uses it for a tracker.
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
    """New points of one metric. They replace the reader's points from ``offset`` on: ``points[offset:] = new``.

    ``offset`` is how many points the reader has, or less: points that not all ranks had reported may change, and the
    metrics of a run that was resumed from a checkpoint are sent again from 0.

    Attributes
    ----------
    times, steps, values
        of shape (n,); times in seconds since the epoch. ``n`` is 0 if points were only removed.
    total
        how many points were logged in all; a reader of decimated points has fewer.
    """

    metric: str
    offset: int
    times: Array
    steps: Array
    values: Array
    total: int


@dataclass
class _Position:
    """How many final points of one metric were returned: ``logged`` points, decimated to ``sent``."""

    series: Series | None = None
    generation: int = -1
    logged: int = 0
    sent: int = 0
    open_sent: bool = False
    """Whether points that may still change were returned, too."""


class SeriesCursor:
    """Remembers which points of a run's metrics one reader has. Each reader has its own cursor.

    Parameters
    ----------
    pixels
        the width of the reader's chart: more than five times as many points are decimated, so that their plot looks the
        same (:func:`mlnb.api.read.decimate.decimate`). ``None``: every point.
    """

    def __init__(self, pixels: int | None = None) -> None:
        self._pixels = pixels
        self._positions: dict[str, _Position] = {}

    def new(self, series: Mapping[str, Series], *, settled: bool = False) -> list[SeriesUpdate]:
        """The updates since the last call.

        Parameters
        ----------
        series
            what :meth:`mlnb.api.run.Run.series` (or ``all_series``) returns now.
        settled
            leave out points that may still change since not every rank has reported them, for readers that can't remove
            points. Call without it after the end of the run.
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
