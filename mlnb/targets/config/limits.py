"""What a site allows on a target, as for a course: ``max-gpus``, ``max-nodes``, ``max-memory``, ``max-time``."""

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


def usual(settings: Mapping[str, Any], asked: Resources) -> Resources:
    """``asked``, without GPUs where none are asked for and the target allows none on each node."""
    gpus = count(settings, "max-gpus")
    return replace(asked, gpus=0) if asked.gpus is None and gpus is not None and gpus < asked.nodes else asked


def within(settings: Mapping[str, Any], filled: Resources, asked: Resources) -> Resources:
    """``filled``, with no more than the target allows of what ``asked`` leaves open: nobody asked for more."""
    memory, time_ = size(settings, "max-memory"), time(settings, "max-time")
    if asked.memory is None and memory is not None and filled.memory is not None:
        filled = replace(filled, memory=min(memory, filled.memory))
    if asked.time is None and time_ is not None:
        filled = replace(filled, time=min(time_, filled.time or time_))
    return filled


def check(target: str, settings: Mapping[str, Any], asked: Resources) -> None:
    """Refuse what is over a limit of the target.

    Raises
    ------
    UsageError
        naming the limit and the most that it allows.
    """
    gpus, nodes = count(settings, "max-gpus"), count(settings, "max-nodes")
    if gpus is not None and asked.nodes * (asked.gpus or 0) > gpus:
        each = f"--nodes {asked.nodes} --gpus {asked.gpus}" if asked.nodes > 1 else f"--gpus {asked.gpus}"
        each_most = f"--gpus {gpus // asked.nodes} is the most{f' on each of {asked.nodes}' if asked.nodes > 1 else ''}"
        nearest = each_most if gpus >= asked.nodes or not gpus else f"--nodes {gpus} is the most"
        raise UsageError(f"{each}: target {target} allows {gpus} GPU{'s' * (gpus != 1)} a run (max-gpus); {nearest}")
    if nodes is not None and asked.nodes > nodes:
        raise UsageError(f"--nodes {asked.nodes}: target {target} allows {nodes} a run (max-nodes)")
    for flag, given, most, words in (
        ("--memory", asked.memory, size(settings, "max-memory"), settings.get("max-memory")),
        ("--time", asked.time, time(settings, "max-time"), settings.get("max-time")),
    ):
        if given is not None and most is not None and given > most:
            said = format_time(given) if flag == "--time" else format_size(given)
            raise UsageError(f"{flag} {said}: target {target} allows {words} a run (max{flag[1:]})")
