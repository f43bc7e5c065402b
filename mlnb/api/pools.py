"""Warm pools as people handle them: ``%pool start | stop`` and ``mlnb pool start | list | stop``, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlnb.api.submit.options import OPTIONS, Option, Options, read
from mlnb.targets.pool import start as starting
from mlnb.targets.pool.folder import Known, known
from mlnb.targets.registry import target
from mlnb.units import format_time, parse_time

_TAKEN = {
    "--on": "the batch system that it is of",
    "--gpus": "how many GPUs it has. Default: one where the target has any",
    "--cpus": "cores for each of its GPUs",
    "--memory": "its memory, as in 16GB",
    "--time": "how long it may last, as in 30m or 2h",
    "--gpu-type": "",
    "--gpu-memory": "",
    "--gpu-capability": "",
    "--partition": "",
    "--account": "",
    "--qos": "",
    "--requeue": "have it queued again after preemption or a node's loss; the default",
    "--no-requeue": "",
    "--name": "its name, as in --on pool:NAME",
}
POOL_OPTIONS = (
    *(replace(one, help=_TAKEN[one.flag] or one.help) for one in OPTIONS if one.flag in _TAKEN),
    Option("--idle", "how long it is kept without a run, as in 15m, the default", parse_time, "TIME"),
)

_ENDED = 5


def start(words: Sequence[str]) -> tuple[Known, str]:
    """Start a pool; it, and a sentence that says what was chosen.

    Raises
    ------
    UsageError
        for bad options, and for what it can't be.
    MlnbError
        if it can't be started.
    """
    given = read(words, POOL_OPTIONS)
    idle = given.pop("idle", None)
    options = Options(**given)
    place = target(options.on)
    asked = options.resources()
    placement = options.placement(options.name or "pool")
    pool, chosen = starting.start(place.name, asked, placement, name=options.name, idle=idle)
    kept = f"ends when nothing has run on it for {format_time(idle or starting.IDLE)}{'' if idle else ' (--idle)'}"
    job = ", ".join(pool.written.jobs)
    return pool, f"pool {pool.name} is job {job} of {place.name}: {chosen}; {kept}; --on {_address(pool)} runs there"


def _address(pool: Known) -> str:
    """What to write behind ``--on``."""
    return "pool" if sum(one.takes for one in known()) == 1 else f"pool:{pool.name}"


def stop(name: str | None) -> tuple[Known, str]:
    """End a pool: at once, or with the last run on it; it, and a sentence that says which.

    Raises
    ------
    UsageError
        if there is none, or several without a name.
    """
    pool = starting.stop(name)
    if not pool.live:
        return pool, f"pool {pool.name} has ended: {pool.reason}"
    busy = f"{pool.busy} run{'s' * (pool.busy > 1)}"
    return pool, f"pool {pool.name} takes no more runs, and ends with the {busy} on it"


def listed() -> list[Known]:
    """The pools there are, newest first, and the last that have ended."""
    found = known()
    return [pool for pool in found if pool.live] + [pool for pool in found if not pool.live][:_ENDED]


def to_json(pool: Known) -> dict[str, Any]:
    """What ``--json`` shows of a pool."""
    return {
        "id": pool.id,
        "name": pool.name,
        "state": pool.state,
        "reason": pool.reason,
        "on": pool.asked["on"],
        "jobs": list(pool.written.jobs),
        "host": pool.written.host,
        "gpus": pool.resources.gpus,
        "cpus": pool.cores,
        "time": pool.resources.time,
        "idle": pool.asked["idle"],
        "idle_since": pool.written.idle,
        "ends": pool.written.ends,
        "started_by": f"{pool.asked['user']} on {pool.asked['host']}",
        "runs": [run for run, told in pool.written.runs.items() if told["state"] != "over"],
        "dir": str(pool.folder.path),
    }
