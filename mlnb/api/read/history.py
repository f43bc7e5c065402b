"""Joins the metrics of a run's attempts without missing or repeated steps, and averages those of its ranks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlnb.api.read.growable import Array, GrowableColumns
from mlnb.api.read.tailing import Columns, MetricsTail, Rows
from mlnb.errors import MlnbError
from mlnb.node.rank.log import RESUMED
from mlnb.rundir import RunDir

if TYPE_CHECKING:
    import pandas as pd

RESERVED = "mlnb."
"""The prefix of names that belong to mlnb, not to the script."""


@dataclass(frozen=True)
class Series:
    """One metric: arrays of shape (n,), by step and in the order they were logged.

    Attributes
    ----------
    generation
        differs between two reads if points of the first may have changed or been removed.
    stable
        how many points, from the first, will not change in this generation. Later points may change, since not every
        rank has reported them yet.
    """

    time: Array
    step: Array
    value: Array
    attempt: npt.NDArray[np.int16]
    generation: int = 0
    stable: int = 0

    def __len__(self) -> int:
        return len(self.value)


class History:
    """The metrics of one run; each call of :meth:`read` reads and processes only what is new.

    Parameters
    ----------
    run
        the run directory.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._files: dict[tuple[int, int], MetricsTail] = {}
        self._ranks: dict[tuple[int, int], dict[str, GrowableColumns]] = {}
        self._metrics: dict[str, JoinedMetric] = {}
        self._series: dict[str, Series] = {}
        self._newest = 0
        self._generation = 0
        self._lock = threading.Lock()

    def read(self) -> dict[str, Series]:
        """Every metric by name."""
        return {name: series for name, series in self.all().items() if not name.startswith(RESERVED)}

    def all(self) -> dict[str, Series]:
        """Every metric by name, and what mlnb itself records under names that begin with :data:`RESERVED`."""
        with self._lock:
            new = self._new()
            if new:
                self._update(new)
            return {name: series for name, series in self._series.items() if name != RESUMED}

    def _new(self) -> dict[tuple[int, int], Columns]:
        """What the ranks have written since the last call, by attempt and rank."""
        new = {}
        for attempt in self._run.attempts():
            for rank in attempt.ranks():
                key = (attempt.number, rank)
                columns = self._files.setdefault(key, MetricsTail(attempt.metrics(rank))).new()
                if columns:
                    new[key] = columns
        return new

    def _update(self, new: dict[tuple[int, int], Columns]) -> None:
        for key, columns in new.items():
            of_rank = self._ranks.setdefault(key, {})
            for name, rows in columns.items():
                of_rank.setdefault(name, GrowableColumns(3)).append(*rows)
        newest = max(attempt for attempt, _ in self._ranks)
        same_attempt = newest == self._newest and all(
            attempt == newest and RESUMED not in columns for (attempt, _), columns in new.items()
        )
        if not same_attempt:
            self._newest = newest
            self._generation += 1
            self._metrics = self._earlier_attempts(newest)
            self._series = {}
        ranks = [self._ranks[key] for key in sorted(self._ranks) if key[0] == newest]
        fresh = {name for columns in new.values() for name in columns}
        for name in dict.fromkeys([*self._metrics, *(name for columns in ranks for name in columns)]):
            if not same_attempt or name in fresh:
                metric = self._metrics.setdefault(name, JoinedMetric())
                metric.update([columns[name] for columns in ranks if name in columns], newest)
                self._series[name] = metric.series(self._generation)

    def _earlier_attempts(self, newest: int) -> dict[str, JoinedMetric]:
        """The metrics of the attempts before the newest, each cut back to the step from which the next one resumed."""
        attempts = sorted({attempt for attempt, _ in self._ranks})
        by_attempt = [(a, self._mean_of(a) if a != newest else self._first_rank_of(a)) for a in attempts]
        names = dict.fromkeys(name for _, columns in by_attempt for name in columns)
        return {name: metric for name in names if len(metric := _joined(name, by_attempt, newest))}

    def _mean_of(self, attempt: int) -> Columns:
        """One attempt's metrics, averaged over its ranks."""
        ranks = [self._ranks[key] for key in sorted(self._ranks) if key[0] == attempt]
        names = dict.fromkeys(name for columns in ranks for name in columns)
        return {name: _mean([columns[name].columns() for columns in ranks if name in columns]) for name in names}

    def _first_rank_of(self, attempt: int) -> Columns:
        """One attempt's metrics, each as reported by the first rank that has it."""
        ranks = [self._ranks[key] for key in sorted(self._ranks, reverse=True) if key[0] == attempt]
        return {name: rows.columns() for columns in ranks for name, rows in columns.items()}


class JoinedMetric:
    """One metric over attempts and ranks. Rows that all ranks have reported are final; later rows are recomputed."""

    def __init__(self) -> None:
        self._rows = GrowableColumns(3)
        self._attempt = np.empty(256, dtype=np.int16)
        self._earlier = 0  # rows of the attempts before the newest
        self._settled = 0  # rows of the newest one that all its ranks have reported
        self._ranks = 0
        self._restarts = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, columns: Rows, attempt: int) -> None:
        """Add rows of one attempt."""
        start = len(self._rows)
        self._rows.append(*columns)
        if len(self._rows) > len(self._attempt):
            larger = np.empty(2 * len(self._rows), dtype=np.int16)
            larger[:start] = self._attempt[:start]
            self._attempt = larger
        self._attempt[start : len(self._rows)] = attempt

    def end_earlier_attempts(self) -> None:
        """Declare that all rows so far belong to attempts before the newest."""
        self._earlier = len(self._rows)

    def update(self, ranks: list[GrowableColumns], attempt: int) -> None:
        """Update the rows of the newest attempt from what each of its ranks has reported so far."""
        if len(ranks) != self._ranks:  # a further rank reports: rows that were settled without it no longer are
            self._restarts += bool(self._ranks)
            self._ranks, self._settled = len(ranks), 0
        self._rows.cut(self._earlier + self._settled)
        if len(ranks) == 1:
            self.append(ranks[0].columns(self._settled), attempt)
            self._settled = len(ranks[0])
            return
        if not ranks:
            return
        new = [rank.columns(self._settled) for rank in ranks]
        count = min(len(rows[0]) for rows in new)
        if _aligned(new, count, self._last_settled_step()):
            times, values = (np.stack([rows[i][:count] for rows in new]) for i in (0, 2))
            self.append((times.min(0, initial=np.inf), new[0][1][:count], values.mean(0)), attempt)
            self._settled += count
            new = [rest for rows in new if len((rest := _rows_from(rows, count))[0])]
        elif self._settled:
            self._restarts += 1
            self._settled = 0
            self._rows.cut(self._earlier)
            new = [rank.columns() for rank in ranks]
        if new:
            self.append(_mean(new), attempt)

    def _last_settled_step(self) -> float:
        return float(self._rows.columns()[1][-1]) if self._settled else -np.inf

    def series(self, generation: int) -> Series:
        """The metric as it is now; the arrays are views."""
        size = len(self._rows)
        # one number for both kinds of change: there are far fewer than 1000 attempts and ranks
        times, steps, values = self._rows.columns()
        return Series(
            times,
            steps,
            values,
            self._attempt[:size],
            generation * 1000 + self._restarts,
            self._earlier + self._settled,
        )


def _rows_from(columns: Rows, start: int) -> Rows:
    return tuple(column[start:] for column in columns)


def _aligned(ranks: list[Rows], count: int, last: float) -> bool:
    """Whether the first ``count`` rows of all ranks have the same ascending steps, and no later row an earlier step.

    ``last`` is the newest settled step.
    """
    first = ranks[0][1][:count]
    if count and (first[0] < last or np.any(first[1:] < first[:-1])):
        return False
    newest = first[-1] if count else last
    return all(
        np.array_equal(steps[:count], first) and (len(steps) == count or steps[count:].min() >= newest)
        for _, steps, _ in ranks
    )


def _mean(parts: list[Rows]) -> Rows:
    """The mean over ranks, step by step; the k-th value of a step is averaged with the k-th of the other ranks."""
    if len(parts) == 1:
        return parts[0]
    times, steps, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    repeats = np.concatenate([_repeats(part[1]) for part in parts])
    keys, group = np.unique(np.stack([steps, repeats]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    count = np.bincount(group)
    earliest = np.full(len(count), np.inf)
    np.minimum.at(earliest, group, times)
    return earliest, keys[0], np.bincount(group, values) / count


def _repeats(steps: Array) -> Array:
    """For each entry, how many before it have the same step."""
    order = np.argsort(steps, kind="stable")
    ordered = steps[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(steps)), 0))
    repeats = np.empty(len(steps))
    repeats[order] = np.arange(len(steps)) - first
    return repeats


def _joined(name: str, by_attempt: list[tuple[int, Columns]], newest: int) -> JoinedMetric:
    """One metric of the attempts before the newest, each cut back to the step from which the next one resumed."""
    parts: list[tuple[Rows, int]] = []
    for attempt, columns in by_attempt:
        if columns:  # an attempt without a checkpoint to resume from starts over
            resumed_at, resumed_from = (
                float(columns[RESUMED][i][-1]) if RESUMED in columns else -np.inf for i in (0, 2)
            )
            parts = [
                (tuple(column[keep] for column in rows), number)
                for rows, number in parts
                for keep in [(rows[1] <= resumed_from) & (rows[0] <= resumed_at)]
            ]
        if name in columns and attempt != newest:
            parts.append((columns[name], attempt))
    metric = JoinedMetric()
    for rows, attempt in parts:
        metric.append(rows, attempt)
    metric.end_earlier_attempts()
    return metric


def frame(series: dict[str, Series]) -> pd.DataFrame:
    """A long DataFrame: ``name step time value attempt``, one row for each value.

    Raises
    ------
    MlnbError
        without pandas (the extra ``mlnb[pandas]``).
    """
    try:
        import pandas as pd
    except ImportError:
        raise MlnbError("metrics() needs pandas, which is not installed: pip install pandas") from None

    names = list(series)
    lengths = [len(metric) for metric in series.values()]
    codes = np.repeat(np.arange(len(names), dtype=np.int32), lengths)

    def column(field: str) -> npt.NDArray[np.float64]:
        return np.concatenate([getattr(metric, field) for metric in series.values()]) if names else np.empty(0)

    return pd.DataFrame(
        {
            "name": pd.Categorical.from_codes(codes, pd.Index(names)) if names else pd.Categorical([]),
            "step": column("step").astype(np.int64),
            "time": column("time"),
            "value": column("value"),
            "attempt": column("attempt").astype(np.int16),
        }
    )
