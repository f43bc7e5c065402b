"""Says at the end of a run that its loss is NaN, and which weights are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mlnb.node.rank.log import Metrics
from mlnb.units import format_step


def warning(metrics: Metrics) -> str:
    """Which losses are NaN now, and since when; empty if none is."""
    return ", ".join(f"{name} is NaN from step {format_step(step)} on" for name, step in metrics.nan_since.items())


def notes(metrics: Metrics, namespace: Mapping[str, Any]) -> list[str]:
    """Notes on losses that are NaN now, and on the modules of ``namespace`` whose weights are not finite."""
    losses = warning(metrics)
    if not losses:
        return []
    modules = _not_finite(namespace)
    if not modules:
        return [losses]
    return [f"{losses}; the weights of {', '.join(modules)} are not finite: don't go on with them"]


def _not_finite(namespace: Mapping[str, Any]) -> list[str]:
    """The names of modules with a parameter or buffer that isn't finite."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    names = []
    for name, value in namespace.items():
        if isinstance(value, torch.nn.Module):
            try:
                tensors = [*value.parameters(), *value.buffers()]
                if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
                    names.append(name)
            except Exception:  # noqa: BLE001, S112 - an unusual module or tensor, such as one on the meta device
                continue
    return names
