"""Fewer points that look the same: no spike and no NaN is hidden."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlnb.api.read.decimate import decimate

curves = st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=400).map(np.array)


@given(curves, st.integers(1, 20))
def test_what_a_chart_would_show_stays(values: np.ndarray, pixels: int):
    steps = np.arange(len(values), dtype=float)
    kept_steps, kept = decimate(steps, values.astype(float), pixels)
    assert len(kept) <= max(5 * pixels, 0) or len(values) <= 5 * pixels
    assert (np.diff(kept_steps) > 0).all()
    places = kept_steps.astype(int)
    np.testing.assert_array_equal(values[places], kept)
    if not len(values):
        return
    assert (places[0], places[-1]) == (0, len(values) - 1)
    if len(values) <= 5 * pixels:
        assert len(kept) == len(values)
        return
    edges = np.linspace(0, len(values), pixels + 1).astype(int)
    for start, stop in itertools.pairwise(edges):
        bucket = values[start:stop]
        inside = kept[(places >= start) & (places < stop)]
        finite = bucket[np.isfinite(bucket)]
        if len(finite):
            assert finite.min() in inside
            assert finite.max() in inside
        assert np.isfinite(bucket).all() == np.isfinite(inside).all()


def test_one_spike_in_a_million_is_seen():
    values = np.zeros(10**6)
    values[123_456] = 1e9
    values[654_321] = np.nan
    steps, kept = decimate(np.arange(10.0**6), values, 500)
    assert len(kept) <= 2500
    assert 123_456 in steps
    assert 654_321 in steps
