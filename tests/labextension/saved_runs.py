"""Saved runs as notebooks hold them: good, diverged, several metrics, nothing logged."""

from __future__ import annotations

import math
import random
from typing import Any

from lab_browser import MIME_TYPE


def saved(name: str, state: str, reason: str = "", line: str = "", **metrics: list[float]) -> dict[str, Any]:
    """A MIME bundle of one run whose steps count from 0."""
    columns = {
        metric: {"step": list(range(len(values))), "value": [_json_number(value) for value in values]}
        for metric, values in metrics.items()
    }
    run = {"id": f"{name}-1", "name": name, "state": state, "reason": reason, "line": line}
    return {
        MIME_TYPE: {"version": 1, **run, "metrics": columns},
        "text/html": "<b>no extension</b>",
        "text/plain": name,
    }


def loss_curve(count: int, noise: float = 0.08) -> list[float]:
    source = random.Random(1)
    return [2.3 * math.exp(-3 * i / count) + 0.15 + abs(source.gauss(0, noise)) for i in range(count)]


def diverged(count: int) -> list[float]:
    """A loss with one spike, then growing until it is infinite and not a number."""
    values = loss_curve(count)
    values[count // 3] = 4.5
    start = 3 * count // 4
    for i in range(start, count):
        values[i] = values[start - 1] * 1.02 ** (i - start)
    values[-30:-25] = [math.inf] * 5
    values[-25:] = [math.nan] * 25
    return values


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
