"""Limits of one run that a site sets on a target: ``max-gpus``, ``max-nodes``, ``max-memory``, ``max-time``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.config.settings import count, size, time
from mlnb.task import Resources
from mlnb.units import format_size, format_time

SETTINGS = frozenset({"max-gpus", "max-nodes", "max-memory", "max-time"})
"""Settings that every kind of target with limits declares."""


def default_gpus(settings: Mapping[str, Any], requested: Resources) -> Resources:
    """``requested``, with 0 GPUs if it leaves them open and ``max-gpus`` is too low for one on each node."""
    most = count(settings, "max-gpus")
    if requested.gpus is None and most is not None and most < requested.nodes:
        return replace(requested, gpus=0)
    return requested


def cap_defaults(settings: Mapping[str, Any], resolved: Resources, requested: Resources) -> Resources:
    """``resolved``, with memory and time lowered to the target's limits where ``requested`` leaves them open."""
    memory, time_ = size(settings, "max-memory"), time(settings, "max-time")
    if requested.memory is None and memory is not None and resolved.memory is not None:
        resolved = replace(resolved, memory=min(memory, resolved.memory))
    if requested.time is None and time_ is not None:
        resolved = replace(resolved, time=min(time_, resolved.time or time_))
    return resolved


def check(target: str, settings: Mapping[str, Any], requested: Resources) -> None:
    """Check a request against the limits of the target.

    Raises
    ------
    UsageError
        if it exceeds one; the message names the limit and the most that it allows.
    """
    gpus, nodes = count(settings, "max-gpus"), count(settings, "max-nodes")
    if gpus is not None and requested.nodes * (requested.gpus or 0) > gpus:
        several = requested.nodes > 1
        given = f"--nodes {requested.nodes} --gpus {requested.gpus}" if several else f"--gpus {requested.gpus}"
        nearest = f"--gpus {gpus // requested.nodes} is the most{f' on each of {requested.nodes}' if several else ''}"
        if 0 < gpus < requested.nodes:
            nearest = f"--nodes {gpus} is the most"
        raise UsageError(f"{given}: target {target} allows {gpus} GPU{'s' * (gpus != 1)} a run (max-gpus); {nearest}")
    if nodes is not None and requested.nodes > nodes:
        raise UsageError(f"--nodes {requested.nodes}: target {target} allows {nodes} a run (max-nodes)")
    memory, time_ = size(settings, "max-memory"), time(settings, "max-time")
    if requested.memory is not None and memory is not None and requested.memory > memory:
        raise UsageError(
            f"--memory {format_size(requested.memory)}: target {target} allows {settings['max-memory']} a run "
            "(max-memory)"
        )
    if requested.time is not None and time_ is not None and requested.time > time_:
        raise UsageError(
            f"--time {format_time(requested.time)}: target {target} allows {settings['max-time']} a run (max-time)"
        )
