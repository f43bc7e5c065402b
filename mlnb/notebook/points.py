"""The points of one metric, kept as two growable float64 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Column: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = Sequence[float] | Iterable[float] | NDArray[np.generic]

_FIRST_CAPACITY = 1024


def column(numbers: Numbers) -> Column:
    """Return numbers of any kind as one flat column of float64; ``None`` becomes NaN."""
    values = numbers if isinstance(numbers, (np.ndarray, Sequence)) else list(numbers)
    flat = np.asarray(values, dtype=np.float64)
    if flat.ndim != 1:
        msg = f"points of a metric are one-dimensional, these have shape {flat.shape}"
        raise ValueError(msg)
    return flat


class Points:
    """Steps and values in the order they were logged. Appending costs amortised constant time.

    Not thread-safe: whoever owns it holds a lock.
    """

    def __init__(self) -> None:
        self._data = np.empty((2, _FIRST_CAPACITY))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, steps: Column, values: Column) -> None:
        """Add points at the end.

        Raises
        ------
        ValueError
            There is not one value for each step.
        """
        if len(steps) != len(values):
            msg = f"{len(steps)} steps with {len(values)} values: each step needs one value"
            raise ValueError(msg)
        end = self._size + len(steps)
        if end > self._data.shape[1]:
            larger = np.empty((2, max(end, 2 * self._data.shape[1])))
            larger[:, : self._size] = self._data[:, : self._size]
            self._data = larger
        self._data[0, self._size : end] = steps
        self._data[1, self._size : end] = values
        self._size = end

    def cut(self, size: int) -> None:
        """Keep the first ``size`` points.

        Raises
        ------
        ValueError
            There are not that many.
        """
        if size > self._size:
            msg = f"there are {self._size} points, not {size}"
            raise ValueError(msg)
        self._size = size

    def frame(self, start: int = 0) -> bytes:
        """Return the points from ``start`` on as the front end reads them: all steps, then all values."""
        return self._data[:, start : self._size].astype("<f8").tobytes()
