"""The metrics of a run as one history: attempts joined without a step missing or doubled, ranks averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlnb.api.follow import Columns, Frames
from mlnb.node.log import RESUMED
from mlnb.rundir import RunDir

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One metric: arrays of shape (n,), by step and in the order they were logged."""

    time: Array
    step: Array
    value: Array
    attempt: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.value)


class History:
    """The metrics of one run; each call of :meth:`read` reads only what is new.

    Parameters
    ----------
    run
        the run directory.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._files: dict[tuple[int, int], Frames] = {}
        self._columns: dict[tuple[int, int], Columns] = {}

    def read(self) -> dict[str, Series]:
        """Every metric by name."""
        for attempt in self._run.attempts():
            for rank in attempt.ranks():
                key = (attempt.number, rank)
                follow = self._files.setdefault(key, Frames(attempt.metrics(rank)))
                columns = self._columns.setdefault(key, {})
                for name, new in follow.new().items():
                    columns[name] = _extend(columns.get(name), new)
        attempts = sorted({attempt for attempt, _ in self._columns})
        by_attempt = [(a, self._merged(a)) for a in attempts]
        names = dict.fromkeys(name for _, columns in by_attempt for name in columns if name != RESUMED)
        return {name: _joined(name, by_attempt) for name in names}

    def _merged(self, attempt: int) -> Columns:
        """One attempt's metrics over all ranks."""
        ranks = [self._columns[key] for key in sorted(self._columns) if key[0] == attempt]
        names = dict.fromkeys(name for columns in ranks for name in columns)
        return {name: _mean([columns[name] for columns in ranks if name in columns]) for name in names}


def _extend(old: tuple[Array, Array, Array] | None, new: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    if old is None:
        return new
    joined = tuple(np.concatenate(pair) for pair in zip(old, new, strict=True))
    return joined[0], joined[1], joined[2]


def _mean(parts: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
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


def _joined(name: str, by_attempt: list[tuple[int, Columns]]) -> Series:
    """The attempts of one metric, each cut back to the step at which the next one went on."""
    parts: list[tuple[Array, Array, Array, int]] = []
    for attempt, columns in by_attempt:
        if columns:  # one that has no checkpoint to go on from starts over
            start = float(columns[RESUMED][2][-1]) if RESUMED in columns else -np.inf
            parts = [(t[s <= start], s[s <= start], v[s <= start], a) for t, s, v, a in parts]
        if name in columns:
            parts.append((*columns[name], attempt))
    return Series(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
        np.concatenate([np.full(len(part[0]), part[3], dtype=np.int16) for part in parts]),
    )


def frame(series: dict[str, Series]) -> pd.DataFrame:
    """A long DataFrame: ``name step time value attempt``, a row a value."""
    import pandas as pd

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
