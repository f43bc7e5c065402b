"""Decimates a curve so that its plot looks the same: each pixel keeps its extremes, and NaN or infinity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def decimate(steps: Array, values: Array, pixels: int) -> tuple[Array, Array]:
    """The points that a chart ``pixels`` wide would show.

    Parameters
    ----------
    steps, values
        of shape (n,), in order.
    pixels
        buckets; each keeps its first and last point, its minimum, its maximum and its first NaN or infinity.

    Returns
    -------
    tuple of arrays
        at most ``5 * pixels`` of the points, in order.
    """
    keep = selection(values, pixels)
    return steps[keep], values[keep]


def selection(values: Array, pixels: int) -> npt.NDArray[np.bool_] | slice:
    """The index of the points that :func:`decimate` keeps; a slice if it keeps all, so that nothing is copied."""
    count = len(values)
    if count <= 5 * pixels:
        return slice(None)
    edges = np.linspace(0, count, pixels + 1).astype(np.int64)[:-1]
    finite = np.isfinite(values)
    keep = np.zeros(count, dtype=bool)
    keep[edges] = True
    keep[np.r_[edges[1:], count] - 1] = True
    bucket = np.repeat(np.arange(pixels), np.diff(np.r_[edges, count]))
    for extreme, neutral in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        filled = np.where(finite, values, neutral)
        best = extreme.reduceat(filled, edges)
        hits = np.flatnonzero(filled == best[bucket])
        keep[hits[np.unique(bucket[hits], return_index=True)[1]]] = True
    not_finite = np.flatnonzero(~finite)
    keep[not_finite[np.unique(bucket[not_finite], return_index=True)[1]]] = True
    return keep
