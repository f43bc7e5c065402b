"""Describes a run beside its curves, the same for notebook, command line and server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlnb.api import Runs
from mlnb.api.displays import texts
from mlnb.api.read.derived.speed import RATE, SPEED_METRICS, STEP_TIME, mean_speed
from mlnb.api.read.history import RESERVED, Series
from mlnb.api.run import Run
from mlnb.node.checkpoint.names import checkpoints
from mlnb.node.rank.log import PROGRESS
from mlnb.render.format import (
    format_cores,
    format_percent,
    format_power,
    format_rate,
    format_size,
    format_step,
    format_step_time,
    format_time,
    format_time_left,
    format_value,
)

OUTPUT_LINES = 30
"""Lines of output that a view shows."""

MAX_DISPLAYS = 20
"""Displays that a saved notebook keeps; run.displays() has them all."""

_NEWEST = 25
"""How many of the newest speed measurements count as the present speed; there are five per second."""

SeriesByName = Mapping[str, Series]


def summary(run: Run, series: SeriesByName, *, final: bool) -> dict[str, Any]:
    """The data of a view of ``run`` other than its curves, as JSON values.

    Parameters
    ----------
    series
        what :meth:`mlnb.api.Run.all_series` returned.
    final
        whether the run has ended; then all that it displayed is included, and else what is text, as progress bars.
    """
    observed = run.observe()
    result = observed.result or {}
    ends = expected_end(series) if observed.state == "running" else None
    return {
        "version": 1,
        "id": run.id,
        "name": run.name,
        "state": observed.state,
        "reason": observed.reason,
        "line": " · ".join([*latest_values(series), *_duration(result)]),
        "ends": None if ends is None else round(ends),
        "attempts": attempt_starts(series),
        "means": mean_speed(series) if final else {},
        "notes": list(result.get("notes", ())),
        "error": (result.get("error") or {}).get("text", "").rstrip(),
        "output": run.tail(OUTPUT_LINES),
        "displays": _displays(run) if final else [{"text/plain": text} for text in texts(run.directory)],
        "resume": resumable_name(run) if final else "",
        "updated": time.time(),
    }


def status_line(run: Run, series: SeriesByName | None = None) -> str:
    """One line: name, state, reason, and the numbers."""
    observed = run.observe()
    reason = [observed.reason] if observed.reason else []
    return " · ".join([f"{run.name}: {observed.state}", *reason, *numbers(run, series)])


def numbers(run: Run, series: SeriesByName | None = None) -> list[str]:
    """Step, newest metrics, speed, resources in use, time left or taken: each as a short text."""
    observed = run.observe()
    series = run.all_series() if series is None else series
    parts = [*latest_values(series), *_speed(series, ended=observed.result is not None)]
    if observed.state == "running":
        parts += _resources(run.progress.usage or {})
        ends = expected_end(series)
        parts += [f"about {format_time_left(ends - time.time())} left"] if ends is not None else []
    return [*parts, *_duration(observed.result or {})]


def latest_values(series: SeriesByName) -> list[str]:
    """The newest step, the newest loss, and the newest value of up to three other metrics."""
    shown = []
    curves = training_curves(series)
    longest = max(curves.values(), key=len, default=None)
    if longest is not None:
        shown.append(f"step {format_step(float(longest.step[-1]))}")
    names = [name for name in curves if name != "loss"][:3]
    names[:0] = ["loss"] if "loss" in curves else []
    return shown + [f"{name} {format_value(float(curves[name].value[-1]))}" for name in names]


def training_curves(series: SeriesByName) -> dict[str, Series]:
    """The metrics of the training itself: without speed, resources and progress."""
    return {
        name: metric for name, metric in series.items() if name not in SPEED_METRICS and not name.startswith(RESERVED)
    }


def expected_end(series: SeriesByName) -> float | None:
    """When the run will have done all its epochs at the speed of this attempt, in seconds since the epoch."""
    progress = series.get(PROGRESS)
    if progress is None:
        return None
    newest = progress.attempt == progress.attempt[-1]
    times, done = progress.time[newest], progress.value[newest]
    if len(done) < 2 or not done[0] < done[-1] < 1:
        return None
    return float(times[-1] + (times[-1] - times[0]) * (1 - done[-1]) / (done[-1] - done[0]))


def attempt_starts(series: SeriesByName) -> list[dict[str, float]]:
    """The first step of each attempt that continued from a checkpoint of the one before, with its number."""
    longest = max(training_curves(series).values(), key=len, default=None)
    if longest is None or longest.attempt[0] == longest.attempt[-1]:
        return []
    attempts = range(int(longest.attempt[0]) + 1, int(longest.attempt[-1]) + 1)
    indices = np.searchsorted(longest.attempt, attempts)
    return [
        {"number": number, "step": float(longest.step[index])}
        for number, index in zip(attempts, indices, strict=True)
        if longest.attempt[index] == number
    ]


def resumable_name(run: Run) -> str:
    """The run as ``--resume`` names it, if it has not succeeded and has a checkpoint here; else empty."""
    if run.state not in ("failed", "cancelled", "lost") or not checkpoints(run.directory.checkpoints):
        return ""
    newest = Runs(run.workspace).index.named(run.name)
    return run.name if newest is not None and newest.id == run.id else run.id


def _displays(run: Run) -> list[dict[str, Any]]:
    shown = run.displays()
    more = len(shown) - MAX_DISPLAYS
    rest = [{"text/plain": f"… and {more} more: mlnb.runs[{run.id!r}].displays()"}] if more > 0 else []
    return [*shown[:MAX_DISPLAYS], *rest]


def _speed(series: SeriesByName, *, ended: bool) -> list[str]:
    """The present speed; of a run that has ended the mean."""
    speed = mean_speed(series) if ended else {name: _recent(series[name]) for name in SPEED_METRICS if name in series}
    shown = [f"{format_step_time(speed[STEP_TIME])}/step"] if STEP_TIME in speed else []
    return shown + ([f"{format_rate(speed[RATE])} samples/s"] if RATE in speed else [])


def _recent(series: Series) -> float:
    """The median of the last seconds: one slow step, such as the first after an epoch, is not the speed."""
    return float(np.median(series.value[-_NEWEST:]))


def _resources(usage: Mapping[str, Any]) -> list[str]:
    shown = []
    if usage.get("memory"):
        cores = f"{format_cores(usage['cpu'])}, " if usage.get("cpu") is not None else ""
        shown.append(f"{cores}{format_size(usage['memory'])}")
    for gpu in usage.get("gpus") or ():
        parts = [format_percent(gpu["utilisation"])] if gpu.get("utilisation") is not None else []
        parts += [format_size(gpu["memory"])] if gpu.get("memory") else []
        parts += [format_power(gpu["power"])] if gpu.get("power") is not None else []
        if parts:
            shown.append(f"GPU {gpu['gpu']} {', '.join(parts)}")
    return shown


def _duration(result: Mapping[str, Any]) -> list[str]:
    seconds = result.get("seconds")
    return [] if seconds is None else [f"took {format_time(seconds)}"]
