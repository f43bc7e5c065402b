"""The mean speed is that of all steps, not of the measurements."""

from __future__ import annotations

import numpy as np
import pytest

from mlnb.api.read.derived.speed import mean_speed
from mlnb.api.read.history import Series


def series(times: list[float], steps: list[float], values: list[float]) -> Series:
    return Series(np.array(times), np.array(steps), np.array(values), np.ones(len(times), dtype=np.int16))


def test_a_slow_step_after_an_evaluation_is_one_step_of_many():
    times, steps = [1.0, 2.0, 12.0, 13.0], [100.0, 200.0, 201.0, 301.0]
    series_by_name = {
        "step_time": series(times, steps, [0.01, 0.01, 10.0, 0.01]),
        "samples_per_s": series(times, steps, [6400.0, 6400.0, 6.4, 6400.0]),
    }
    found = mean_speed(series_by_name)
    assert found["step_time"] == pytest.approx(12.0 / 201)
    assert found["samples_per_s"] == pytest.approx(201 * 64 / 12.0)


def test_one_measurement_is_the_mean_and_none_is_none():
    assert mean_speed({"step_time": series([1.0], [50.0], [0.02])}) == {"step_time": pytest.approx(0.02)}
    assert mean_speed({}) == {}
