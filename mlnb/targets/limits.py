"""What a site allows on a target, as for a course: ``max-gpus``, ``max-nodes``, ``max-memory``, ``max-time``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.settings import count, size, time
from mlnb.task import Resources
from mlnb.units import say_size, say_time


def check(target: str, settings: Mapping[str, Any], asked: Resources) -> None:
    """Refuse what is over a limit of the target.

    Raises
    ------
    UsageError
        naming the limit and the most that it allows.
    """
    gpus, nodes = count(settings, "max-gpus"), count(settings, "max-nodes")
    if gpus is not None and asked.nodes * asked.gpus > gpus:
        each = f"--nodes {asked.nodes} --gpus {asked.gpus}" if asked.nodes > 1 else f"--gpus {asked.gpus}"
        raise UsageError(
            f"{each}: target {target} allows {gpus} GPU{'s' * (gpus != 1)} a run (max-gpus); --gpus {gpus} is the most"
        )
    if nodes is not None and asked.nodes > nodes:
        raise UsageError(f"--nodes {asked.nodes}: target {target} allows {nodes} a run (max-nodes)")
    for flag, given, most, words in (
        ("--memory", asked.memory, size(settings, "max-memory"), settings.get("max-memory")),
        ("--time", asked.time, time(settings, "max-time"), settings.get("max-time")),
    ):
        if given is not None and most is not None and given > most:
            said = say_time(given) if flag == "--time" else say_size(given)
            raise UsageError(f"{flag} {said}: target {target} allows {words} a run (max{flag[1:]})")
