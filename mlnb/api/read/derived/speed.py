"""The mean speed of a run, from its measurements about once a second."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlnb.api.read.history import Series

STEP_TIME, RATE = SPEED_METRICS = ("step_time", "samples_per_s")
"""Metrics of a run's speed, which are shown as numbers, not as curves."""


def mean_speed(series: Mapping[str, Series]) -> dict[str, float]:
    """The seconds that a step took in the mean over all steps, and the samples a second in the mean over all time.

    Each measurement counts by the steps, or the time, that it is about: one slow step, as after an evaluation, is one
    step of many, although a measurement is about it alone.
    """
    means: dict[str, float] = {}
    times = series.get(STEP_TIME)
    if times is None or not len(times):
        return means
    steps = np.maximum(np.diff(times.step, prepend=times.step[0]), 0)
    if not steps.sum():  # the steps before the first measurement are not known
        steps = np.ones(len(times))
    means[STEP_TIME] = float(np.average(times.value, weights=steps))
    rates = series.get(RATE)
    if rates is not None and len(rates):
        at = np.minimum(np.searchsorted(times.time, rates.time), len(times) - 1)
        seconds = (times.value * steps)[at]
        means[RATE] = float(np.average(rates.value, weights=seconds if seconds.sum() else None))
    return means
