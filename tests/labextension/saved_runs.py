"""Saved runs as notebooks hold them: good, diverged, several metrics, nothing logged."""

from __future__ import annotations

import math
import random
from typing import Any

from lab_browser import MIME_TYPE


def saved(name: str, state: str, reason: str = "", line: str = "", **metrics: Any) -> dict[str, Any]:
    """A MIME bundle of one run. Metrics are values, whose steps count from 0, or steps and values."""
    columns = {}
    for metric, given in metrics.items():
        steps, values = given if isinstance(given, tuple) else (list(range(len(given))), given)
        columns[metric] = {"step": steps, "value": [_json_number(value) for value in values]}
    run = {"id": f"{name}-1", "name": name, "state": state, "reason": reason, "line": line}
    return {
        MIME_TYPE: {"version": 1, **run, "metrics": columns},
        "text/html": "<b>no extension</b>",
        "text/plain": name,
    }


def resumed(bundle: dict[str, Any], *steps: int) -> dict[str, Any]:
    """The same run with a further attempt from each of these steps on."""
    bundle[MIME_TYPE]["attempts"] = [{"number": number, "step": step} for number, step in enumerate(steps, 2)]
    return bundle


def printed(bundle: dict[str, Any], lines: int) -> dict[str, Any]:
    """The same run, having printed so many lines; one that failed has as long a traceback."""
    text = "\n".join(f"epoch {i}: loss {1 / (i + 1):.3f}" for i in range(lines))
    bundle[MIME_TYPE]["output"] = text
    bundle[MIME_TYPE]["error"] = text if bundle[MIME_TYPE]["state"] == "failed" else ""
    return bundle


def asides(gpus: int, count: int = 90) -> dict[str, list[float]]:
    """What a run on so many GPUs uses, by the names of the series."""
    source = random.Random(2)
    found = {
        "step_time": [0.021 + abs(source.gauss(0, 0.002)) for _ in range(count)],
        "samples_per_s": [3000 + source.gauss(0, 150) for _ in range(count)],
        "mlnb.cpu": [min(4.0, 1 + i / 20) + source.gauss(0, 0.2) for i in range(count)],
        "mlnb.memory": [4.1e9 * min(1.0, 0.3 + i / 30) for i in range(count)],
    }
    for gpu in range(gpus):
        found[f"mlnb.gpu{gpu}.utilisation"] = [min(100, 90 + source.gauss(0, 5)) for _ in range(count)]
        found[f"mlnb.gpu{gpu}.memory"] = [61e9] * count
        found[f"mlnb.gpu{gpu}.power"] = [480 + source.gauss(0, 40) for _ in range(count)]
    return found


def loss_curve(count: int, noise: float = 0.08) -> list[float]:
    source = random.Random(1)
    return [2.3 * math.exp(-3 * i / count) + 0.15 + abs(source.gauss(0, noise)) for i in range(count)]


def paired(count: int, epochs: int) -> dict[str, Any]:
    """Training and validation: loss and accuracy, with a spike of the loss at the beginning."""
    loss = loss_curve(count)
    loss[:3] = [180.0, 60.0, 12.0]
    each = count // epochs
    ends = list(range(each - 1, count, each))
    means = [sum(loss[max(3, end + 1 - each) : end + 1]) / each for end in ends]
    val_loss = [mean + 0.004 * i for i, mean in enumerate(means)]
    found: dict[str, Any] = {"loss": loss, "acc": [1 - value / 3 for value in loss_curve(count)]}
    found["val_loss"] = (ends, val_loss)
    found["val_acc"] = (ends, [0.95 - value / 3 for value in val_loss])
    numbers = list(range(epochs))
    found |= {
        "mlnb.epochs": ([0], [epochs]),
        "mlnb.progress": ([0, *ends], [i / epochs for i in range(epochs + 1)]),
        "mlnb.epoch.loss": (numbers, means),
        "mlnb.epoch.val_loss": (numbers, val_loss),
        "mlnb.epoch.acc": (numbers, [1 - mean / 3 for mean in means]),
        "mlnb.epoch.val_acc": (numbers, found["val_acc"][1]),
        "mlnb.epoch_seconds": (numbers, [72 - i for i in numbers]),
    }
    return found


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
