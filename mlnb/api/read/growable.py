"""Columns of numbers that grow at the end, in which readers keep metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_FIRST_CAPACITY = 256


class GrowableColumns:
    """Some float64 columns of one length. Appending costs amortised constant time.

    Not thread-safe: its owner holds a lock.

    Parameters
    ----------
    count
        how many columns.
    """

    def __init__(self, count: int) -> None:
        self._data = np.empty((count, _FIRST_CAPACITY))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, *columns: Array) -> None:
        """Add rows at the end: one array of shape (n,) for each column.

        Raises
        ------
        ValueError
            if there is not one array of the same length for each column. Then nothing is added.
        """
        lengths = {len(column) for column in columns}
        if len(columns) != len(self._data) or len(lengths) != 1:
            msg = f"columns of {sorted(lengths)} rows: {len(self._data)} columns of one length are needed"
            raise ValueError(msg)
        end = self._size + lengths.pop()
        if end > self._data.shape[1]:
            larger = np.empty((len(self._data), max(end, 2 * self._data.shape[1])))
            larger[:, : self._size] = self._data[:, : self._size]
            self._data = larger
        for target, column in zip(self._data, columns, strict=True):
            target[self._size : end] = column
        self._size = end

    def cut(self, size: int) -> None:
        """Keep the first ``size`` rows. Arrays from :meth:`columns` stay as they are until rows are added.

        Raises
        ------
        ValueError
            if there are fewer.
        """
        if size > self._size:
            msg = f"there are {self._size} rows, not {size}"
            raise ValueError(msg)
        self._size = size

    def columns(self, start: int = 0) -> tuple[Array, ...]:
        """Each column from row ``start`` on, as a view: nothing is copied."""
        return tuple(column[start : self._size] for column in self._data)
