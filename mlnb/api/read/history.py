"""The metrics of a run as one history: attempts joined without a step missing or doubled, ranks averaged."""

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
"""How names begin that are ours, not the script's."""


@dataclass(frozen=True)
class Series:
    """One metric: arrays of shape (n,), by step and in the order they were logged.

    Attributes
    ----------
    generation
        differs between two reads if points of the first may have changed or gone.
    stable
        the first so many points are the same in all later reads of this generation; those behind may change, since
        not every rank has reported them yet.
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
    """The metrics of one run; each call of :meth:`read` reads only what is new, and costs only what is new.

    Parameters
    ----------
    run
        the run directory.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._files: dict[tuple[int, int], MetricsTail] = {}
        self._ranks: dict[tuple[int, int], dict[str, GrowableColumns]] = {}
        self._joined: dict[str, Joined] = {}
        self._series: dict[str, Series] = {}
        self._newest = 0
        self._generation = 0
        self._lock = threading.Lock()

    def read(self) -> dict[str, Series]:
        """Every metric by name."""
        return {name: one for name, one in self.all().items() if not name.startswith(RESERVED)}

    def all(self) -> dict[str, Series]:
        """Every metric by name, and what the ranks tell the reader under names of our own."""
        with self._lock:
            new = self._new()
            if new:
                self._take(new)
            return {name: one for name, one in self._series.items() if name != RESUMED}

    def _new(self) -> dict[tuple[int, int], Columns]:
        """What the ranks have written since the last call, by attempt and rank."""
        found = {}
        for attempt in self._run.attempts():
            for rank in attempt.ranks():
                key = (attempt.number, rank)
                columns = self._files.setdefault(key, MetricsTail(attempt.metrics(rank))).new()
                if columns:
                    found[key] = columns
        return found

    def _take(self, new: dict[tuple[int, int], Columns]) -> None:
        for key, columns in new.items():
            kept = self._ranks.setdefault(key, {})
            for name, one in columns.items():
                kept.setdefault(name, GrowableColumns(3)).append(*one)
        newest = max(attempt for attempt, _ in self._ranks)
        goes_on = newest == self._newest and all(
            attempt == newest and RESUMED not in columns for (attempt, _), columns in new.items()
        )
        if not goes_on:
            self._newest = newest
            self._generation += 1
            self._joined = self._before(newest)
            self._series = {}
        ranks = [self._ranks[key] for key in sorted(self._ranks) if key[0] == newest]
        fresh = {name for columns in new.values() for name in columns}
        for name in dict.fromkeys([*self._joined, *(name for columns in ranks for name in columns)]):
            if not goes_on or name in fresh:
                joined = self._joined.setdefault(name, Joined())
                joined.bring([columns[name] for columns in ranks if name in columns], newest)
                self._series[name] = joined.series(self._generation)

    def _before(self, newest: int) -> dict[str, Joined]:
        """The attempts before the newest, each cut back to the step at which the next one went on."""
        attempts = sorted({attempt for attempt, _ in self._ranks})
        by_attempt = [(a, self._merged(a) if a != newest else self._first(a)) for a in attempts]
        names = dict.fromkeys(name for _, columns in by_attempt for name in columns)
        return {name: joined for name in names if len(joined := _joined(name, by_attempt, newest))}

    def _merged(self, attempt: int) -> Columns:
        """One attempt's metrics over all ranks."""
        ranks = [self._ranks[key] for key in sorted(self._ranks) if key[0] == attempt]
        names = dict.fromkeys(name for columns in ranks for name in columns)
        return {name: _mean([columns[name].columns() for columns in ranks if name in columns]) for name in names}

    def _first(self, attempt: int) -> Columns:
        """One attempt's metrics by the first rank that has them."""
        ranks = [self._ranks[key] for key in sorted(self._ranks, reverse=True) if key[0] == attempt]
        return {name: one.columns() for columns in ranks for name, one in columns.items()}


class Joined:
    """One metric over attempts and ranks: rows that all ranks have reported stay, those behind are made anew."""

    def __init__(self) -> None:
        self._rows = GrowableColumns(3)
        self._attempt = np.empty(256, dtype=np.int16)
        self._base = 0  # rows of the attempts before the newest
        self._settled = 0  # rows of the newest one that all its ranks have reported
        self._ranks = 0
        self._restarts = 0

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, columns: Rows, attempt: int) -> None:
        """Add rows of one attempt."""
        start = len(self._rows)
        self._rows.append(*columns)
        if len(self._rows) > len(self._attempt):
            larger = np.empty(2 * len(self._rows), dtype=np.int16)
            larger[:start] = self._attempt[:start]
            self._attempt = larger
        self._attempt[start : len(self._rows)] = attempt

    def end_base(self) -> None:
        """Say that all rows so far are of attempts before the newest."""
        self._base = len(self._rows)

    def bring(self, ranks: list[GrowableColumns], attempt: int) -> None:
        """Bring up to date what the newest attempt's ranks have reported, each of them all of it."""
        if len(ranks) != self._ranks:  # a rank more: what was settled without it is not
            self._restarts += bool(self._ranks)
            self._ranks, self._settled = len(ranks), 0
        self._rows.cut(self._base + self._settled)
        if len(ranks) == 1:
            self.put(ranks[0].columns(self._settled), attempt)
            self._settled = len(ranks[0])
            return
        if not ranks:
            return
        new = [rank.columns(self._settled) for rank in ranks]
        count = min(len(one[0]) for one in new)
        if _aligned(new, count, self._last()):
            times, values = (np.stack([one[i][:count] for one in new]) for i in (0, 2))
            self.put((times.min(0, initial=np.inf), new[0][1][:count], values.mean(0)), attempt)
            self._settled += count
            new = [rest for one in new if len((rest := _from(one, count))[0])]
        elif self._settled:
            self._restarts += 1
            self._settled = 0
            self._rows.cut(self._base)
            new = [rank.columns() for rank in ranks]
        if new:
            self.put(_mean(new), attempt)

    def _last(self) -> float:
        """The newest settled step."""
        return float(self._rows.columns()[1][-1]) if self._settled else -np.inf

    def series(self, generation: int) -> Series:
        """What there is, not copied."""
        size = len(self._rows)
        # one number for both kinds of change: attempts come and ranks join far less than 1000 times
        times, steps, values = self._rows.columns()
        return Series(
            times,
            steps,
            values,
            self._attempt[:size],
            generation * 1000 + self._restarts,
            self._base + self._settled,
        )


def _from(columns: Rows, start: int) -> Rows:
    return tuple(column[start:] for column in columns)


def _aligned(ranks: list[Rows], count: int, last: float) -> bool:
    """Whether the first ``count`` rows of all ranks are of the same steps, in order, and none behind is earlier."""
    first = ranks[0][1][:count]
    if count and (first[0] < last or np.any(first[1:] < first[:-1])):
        return False
    newest = first[-1] if count else last
    return all(
        np.array_equal(steps[:count], first) and (len(steps) == count or steps[count:].min() >= newest)
        for _, steps, _ in ranks
    )


def _mean(parts: list[Rows]) -> Rows:
    """Average over ranks, step by step; the k-th value of a step meets the k-th of the other ranks."""
    if len(parts) == 1:
        return parts[0]
    times, steps, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    turn = np.concatenate([_turn(part[1]) for part in parts])
    keys, place = np.unique(np.stack([steps, turn]), axis=1, return_inverse=True)
    place = place.reshape(-1)
    count = np.bincount(place)
    earliest = np.full(len(count), np.inf)
    np.minimum.at(earliest, place, times)
    return earliest, keys[0], np.bincount(place, values) / count


def _turn(steps: Array) -> Array:
    """For each entry, how many before it have the same step."""
    order = np.argsort(steps, kind="stable")
    ordered = steps[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(steps)), 0))
    turn = np.empty(len(steps))
    turn[order] = np.arange(len(steps)) - first
    return turn


def _joined(name: str, by_attempt: list[tuple[int, Columns]], newest: int) -> Joined:
    """One metric of the attempts before the newest, each cut back to the step at which the next one went on."""
    parts: list[tuple[Rows, int]] = []
    for attempt, columns in by_attempt:
        if columns:  # one that has no checkpoint to go on from starts over
            at, start = (float(columns[RESUMED][i][-1]) if RESUMED in columns else -np.inf for i in (0, 2))
            parts = [
                (tuple(column[keep] for column in rows), number)
                for rows, number in parts
                for keep in [(rows[1] <= start) & (rows[0] <= at)]
            ]
        if name in columns and attempt != newest:
            parts.append((columns[name], attempt))
    joined = Joined()
    for rows, attempt in parts:
        joined.put(rows, attempt)
    joined.end_base()
    return joined


def frame(series: dict[str, Series]) -> pd.DataFrame:
    """A long DataFrame: ``name step time value attempt``, a row a value.

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
    lengths = [len(one) for one in series.values()]
    codes = np.repeat(np.arange(len(names), dtype=np.int32), lengths)

    def column(field: str) -> npt.NDArray[np.float64]:
        return np.concatenate([getattr(one, field) for one in series.values()]) if names else np.empty(0)

    return pd.DataFrame(
        {
            "name": pd.Categorical.from_codes(codes, pd.Index(names)) if names else pd.Categorical([]),
            "step": column("step").astype(np.int64),
            "time": column("time"),
            "value": column("value"),
            "attempt": column("attempt").astype(np.int16),
        }
    )
