"""What is said of a run beside its curves: the same for notebook, command line and server."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlnb.api.read.history import RESERVED, Series
from mlnb.api.run import Run
from mlnb.node.rank.log import PROGRESS
from mlnb.units import format_size, format_time

LINES = 30
"""Lines of output that a view shows."""

FIGURES = 10
"""Figures that a saved notebook keeps; run.figures() has them all."""

PACE = ("step_time", "samples_per_s")
"""Metrics that tell how fast a run is, not how well it learns: shown beside the curves."""

Told = Mapping[str, Series]


def head(run: Run, told: Told, *, final: bool) -> dict[str, Any]:
    """What a view shows of ``run`` beside its curves, as JSON.

    Parameters
    ----------
    told
        what :meth:`mlnb.api.Run.all_series` gave.
    final
        whether the run has ended: then the figures are in it too.
    """
    seen = run.observe()
    result = seen.result or {}
    ends = expected_end(told) if seen.state == "running" else None
    return {
        "version": 1,
        "id": run.id,
        "name": run.name,
        "state": seen.state,
        "reason": seen.reason,
        "line": " · ".join([*metrics(told), *_took(result)]),
        "ends": None if ends is None else round(ends),
        "attempts": starts(told),
        "notes": list(result.get("notes", ())),
        "error": (result.get("error") or {}).get("text", "").rstrip(),
        "output": run.tail(LINES),
        "figures": [base64.b64encode(path.read_bytes()).decode() for path in run.figures()[:FIGURES]] if final else [],
        "updated": time.time(),
    }


def line(run: Run, told: Told | None = None) -> str:
    """One sentence: name, state, why, and the numbers."""
    seen = run.observe()
    return " · ".join([f"{run.name}: {seen.state}", *([seen.reason] if seen.reason else []), *numbers(run, told)])


def numbers(run: Run, told: Told | None = None) -> list[str]:
    """Step, newest metrics, pace, usage, time left or taken: each in a few words."""
    seen = run.observe()
    told = run.all_series() if told is None else told
    parts = [*metrics(told), *_pace(told)]
    if seen.state == "running":
        parts += _usage(run.phase.usage or {})
        ends = expected_end(told)
        parts += [f"about {format_time(max(1.0, ends - time.time()))} left"] if ends is not None else []
    return [*parts, *_took(seen.result or {})]


def metrics(told: Told) -> list[str]:
    """The step and the newest metrics."""
    shown = []
    own = curves(told)
    longest = max(own.values(), key=len, default=None)
    if longest is not None:
        shown.append(f"step {int(longest.step[-1])}")
    names = [name for name in own if name != "loss"][:3]
    return shown + [f"{name} {own[name].value[-1]:.4g}" for name in (*(["loss"] if "loss" in own else []), *names)]


def curves(told: Told) -> dict[str, Series]:
    """What the script's training is about: without pace, usage and progress."""
    return {name: one for name, one in told.items() if name not in PACE and not name.startswith(RESERVED)}


def expected_end(told: Told) -> float | None:
    """When the run will have done all of its epochs if it goes on as in this attempt, in seconds since the epoch."""
    progress = told.get(PROGRESS)
    if progress is None:
        return None
    mine = progress.attempt == progress.attempt[-1]
    when, done = progress.time[mine], progress.value[mine]
    if len(done) < 2 or not done[0] < done[-1] < 1:
        return None
    return float(when[-1] + (when[-1] - when[0]) * (1 - done[-1]) / (done[-1] - done[0]))


def starts(told: Told) -> list[dict[str, float]]:
    """Where on the curves attempts begin that went on with another's work."""
    longest = max(curves(told).values(), key=len, default=None)
    if longest is None or longest.attempt[0] == longest.attempt[-1]:
        return []
    begins = range(int(longest.attempt[0]) + 1, int(longest.attempt[-1]) + 1)
    places = np.searchsorted(longest.attempt, begins)
    return [
        {"number": number, "step": float(longest.step[place])}
        for number, place in zip(begins, places, strict=True)
        if longest.attempt[place] == number
    ]


_PACES = 25
"""Measurements of the pace that count: five a second."""


def _pace(told: Told) -> list[str]:
    shown = []
    if "step_time" in told:
        shown.append(f"{_lately(told['step_time']) * 1000:.3g} ms a step")
    if "samples_per_s" in told:
        shown.append(f"{_lately(told['samples_per_s']):.0f} samples/s")
    return shown


def _lately(series: Series) -> float:
    """What holds of the last seconds: one slow step, as that behind which an epoch ends, is not the pace."""
    return float(np.median(series.value[-_PACES:]))


def _usage(usage: Mapping[str, Any]) -> list[str]:
    shown = []
    if usage.get("memory"):
        cores = f"{usage['cpu']:.1f} cores, " if usage.get("cpu") is not None else ""
        shown.append(f"{cores}{format_size(usage['memory'])}")
    for gpu in usage.get("gpus") or ():
        parts = [f"{gpu['utilisation']} %"] if gpu.get("utilisation") is not None else []
        parts += [format_size(gpu["memory"])] if gpu.get("memory") else []
        parts += [f"{gpu['power']:.0f} W"] if gpu.get("power") is not None else []
        if parts:
            shown.append(f"GPU {gpu['gpu']} {', '.join(parts)}")
    return shown


def _took(result: Mapping[str, Any]) -> list[str]:
    seconds = result.get("seconds")
    return [] if seconds is None else [f"took {format_time(seconds)}"]
