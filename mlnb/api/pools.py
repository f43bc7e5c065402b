"""Starts, lists and stops warm pools, for ``%pool`` and ``mlnb pool``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlnb.api.submit.option_reader import OptionTable, value_of
from mlnb.api.submit.options import OPTIONS, TIME, Options
from mlnb.targets.config.options import COMMON, RunOption
from mlnb.targets.pool import start as pool_start
from mlnb.targets.pool.folder import PoolInfo, all_pools
from mlnb.targets.registry import target
from mlnb.units import format_time
from mlnb.workspace import Workspace

_OPTION_HELP = {
    "--on": "the batch system that runs the pool's job",
    "--gpus": "GPUs of the pool. Default: one if the target has any",
    "--cpus": "CPU cores for each GPU",
    "--memory": "memory of the pool, as in 16GB",
    "--time": "how long the pool may last, as in 30m or 2h",
    "--name": "name of the pool, as in --on pool:NAME",
}
"""Help of options of ``%%train`` that mean something else for a pool."""

POOL_OPTIONS = (
    *(option.with_help(_OPTION_HELP.get(option.flag, option.help or "")) for option in OPTIONS if option.for_pools),
    RunOption(
        "--idle", group=COMMON, type=TIME, help="end the pool after this long without a run, as in 15m, the default"
    ),
)
"""The options of ``%pool start`` that every pool has; those of its batch system are :func:`for_pools`."""


def for_pools(option: RunOption) -> bool:
    """Whether ``%pool start`` has this option of a target."""
    return option.for_pools


_ENDED_SHOWN = 5
"""How many of the pools that have ended are listed."""


def start(arguments: Sequence[str], workspace: Workspace | None = None) -> tuple[PoolInfo, str]:
    """Start a pool with the options of a line; returns the pool, and a sentence about it for the user.

    Without a workspace, that of this process is used, as in the other functions of this module.

    Raises
    ------
    UsageError
        for wrong options, and for resources that the target doesn't have.
    MlnbError
        if the pool's job can't be submitted.
    """
    workspace = workspace or Workspace.of_process()
    given = OptionTable(value_of(arguments, "--on"), workspace, POOL_OPTIONS, for_pools).read(arguments)
    idle = given.pop("idle", None)
    options = Options(**given)
    on = target(options.on, workspace).name
    placement = options.placement(options.name or "pool")
    pool, chosen = pool_start.start(on, options.resources(), placement, workspace, name=options.name, idle=idle)
    ends = f"ends when nothing has run on it for {format_time(idle or pool_start.IDLE)}{'' if idle else ' (--idle)'}"
    job, on_pool = ", ".join(pool.written.jobs), _target_name(pool, workspace)
    return (
        pool,
        f"pool {pool.name} is job {job} of {on}: {chosen}; {ends}; use it with --on {on_pool}",
    )


def _target_name(pool: PoolInfo, workspace: Workspace) -> str:
    """The name of the pool for ``--on``."""
    return "pool" if sum(other.accepts_runs for other in all_pools(workspace)) == 1 else f"pool:{pool.name}"


def stop(name: str | None, workspace: Workspace | None = None) -> tuple[PoolInfo, str]:
    """End a pool, at once or with the last run on it; returns the pool, and a sentence about it for the user.

    Raises
    ------
    UsageError
        if there is none, or several without a name.
    """
    pool = pool_start.stop(name, workspace or Workspace.of_process())
    if not pool.live:
        return pool, f"pool {pool.name} has ended: {pool.reason}"
    active = f"{pool.active_runs} run{'s' * (pool.active_runs > 1)}"
    return pool, f"pool {pool.name} accepts no more runs, and ends with the {active} on it"


def listed(workspace: Workspace | None = None) -> list[PoolInfo]:
    """The live pools, newest first, and then the last few that have ended."""
    pools = all_pools(workspace or Workspace.of_process())
    return [pool for pool in pools if pool.live] + [pool for pool in pools if not pool.live][:_ENDED_SHOWN]


def to_json(pool: PoolInfo) -> dict[str, Any]:
    """A pool as ``mlnb pool list --json`` prints it."""
    return {
        "id": pool.id,
        "name": pool.name,
        "state": pool.state,
        "reason": pool.reason,
        "on": pool.request["on"],
        "jobs": list(pool.written.jobs),
        "host": pool.written.host,
        "gpus": pool.resources.gpus,
        "cpus": pool.cores,
        "time": pool.resources.time,
        "idle": pool.request["idle"],
        "idle_since": pool.written.idle_since,
        "ends": pool.written.ends_at,
        "started_by": f"{pool.request['user']} on {pool.request['host']}",
        "runs": [run_id for run_id, run in pool.written.runs.items() if run["state"] != "over"],
        "dir": str(pool.folder.path),
    }
