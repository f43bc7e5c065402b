"""Starts and stops pools."""

from __future__ import annotations

import contextlib
import getpass
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from mlnb.errors import MlnbError, UsageError, storage_errors
from mlnb.files import write_once
from mlnb.rundir import check_trusted, write_atomic, write_json
from mlnb.targets import warm
from mlnb.targets.base import Placement
from mlnb.targets.environment import run_environment
from mlnb.targets.node_zip import node_zip
from mlnb.targets.pool import folder, orphan_cleanup
from mlnb.targets.pool.folder import PoolDir, PoolInfo
from mlnb.task import Resources
from mlnb.workspace import Workspace

IDLE = 15 * 60
"""Seconds without a run after which a pool ends, unless ``--idle`` says otherwise."""

_QUIET = {"DASK_LOGGING__DISTRIBUTED": "warning"}
_PATIENCE = 60.0
"""Seconds to wait for the daemon to submit its job, or to end the pool."""

_RETENTION = 86400.0
"""Seconds for which the folder of a pool that has ended is kept."""


def start(
    on: str, requested: Resources, placement: Placement, workspace: Workspace, *, name: str | None, idle: int | None
) -> tuple[PoolInfo, str]:
    """Start a pool and wait until its job is in the queue.

    Parameters
    ----------
    on
        name of the target that runs its job: a batch system.
    name
        of the pool; ``None`` for ``pool``, or ``pool-2`` and so on if there is one.
    idle
        seconds without a run after which it ends; ``None`` for :data:`IDLE`.

    Returns
    -------
    PoolInfo, str
        the pool; and what was chosen for its job, as a text to show.

    Raises
    ------
    UsageError
        if the request is wrong: resources that the target doesn't have, or a name that is in use.
    MlnbError
        if the job can't be submitted; then no files remain.
    """
    from mlnb.targets.pool.allocation import batch_target

    target = batch_target(on, workspace)
    _clean_up(workspace)
    names = {pool.name for pool in folder.all_pools(workspace) if pool.live}
    name = name or _free_name(names)
    if name in names:
        raise UsageError(f"--name {name}: a pool of that name exists; mlnb pool stop {name} ends it")
    offer = target.offer(requested, replace(placement, name=name))
    if offer.resources.nodes > 1:
        raise UsageError(f"--nodes {offer.resources.nodes}: a pool has one node")
    root = folder.pools_root(workspace)
    pool_dir = PoolDir(root / f"{name}-{secrets.token_hex(3)}")
    with storage_errors(pool_dir.path):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_trusted(root, "no pool is put there")
        pool_dir.path.mkdir(mode=0o700)
        pool_dir.job.attempt(1).path.mkdir(mode=0o700, parents=True)
    write_atomic(pool_dir.job.node_zip, node_zip().data)
    write_json(
        pool_dir.request,
        {
            "name": name,
            "on": on,
            "cluster": target.system.cluster,
            "resources": asdict(offer.resources),
            "node": asdict(offer.node),
            "placement": dict(offer.placement),
            "idle": idle or IDLE,
            "since": time.time(),
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "bundle": node_zip().digest,
        },
    )
    return _wait_for_job(pool_dir, _spawn_daemon(pool_dir, workspace, target.system.site_variables)), "; ".join(
        offer.summary_lines
    )


def _spawn_daemon(pool_dir: PoolDir, workspace: Workspace, site: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with pool_dir.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlnb.targets.pool.daemon", str(pool_dir.path)],
            env=run_environment({**_system_variables(workspace), **site, **_QUIET}, workspace),
            cwd=pool_dir.path,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # if it has died, its log says why
        process.stdin.write(json.dumps(workspace.to_json(), default=str).encode())
    warm.reap(process)
    return process


def _system_variables(workspace: Workspace) -> dict[str, str]:
    """The environment variables that the commands of all batch systems need."""
    from mlnb.targets.batch import load_system, submit_commands

    systems = (load_system(kind)({}, workspace) for kind in submit_commands())
    return {name: value for system in systems for name, value in system.environment().items()}


def _wait_for_job(pool_dir: PoolDir, process: subprocess.Popen[bytes]) -> PoolInfo:
    """Wait until the daemon has submitted the pool's job; returns the pool.

    Raises
    ------
    MlnbError
        if the job was refused, the daemon died, or it takes longer than ``_PATIENCE``.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        ended, pool = process.poll() is not None, PoolInfo(pool_dir)
        if pool.written.state == "ended":
            shutil.rmtree(pool_dir.path, ignore_errors=True)
            raise MlnbError(f"the pool could not be started: {pool.written.reason}")
        if pool.written.jobs:
            return pool
        if ended:
            if pool.written.state == "closing":
                raise MlnbError(f"the pool could not be started: {pool.written.reason}")
            last_line = pool_dir.log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise MlnbError(
                f"the pool's daemon ended with exit code {process.returncode} ({pool_dir.log}): {last_line}"
            )
        if time.monotonic() > end:
            raise MlnbError(f"the pool's job is not submitted yet; see mlnb pool list and {pool_dir.log}")
        time.sleep(0.02)


def stop(name: str | None, workspace: Workspace) -> PoolInfo:
    """End a pool, at once or with the last run on it. Waits for its daemon unless runs are left.

    Raises
    ------
    UsageError
        if there is none, or several without a name.
    """
    pool = folder.find_pool(name, workspace)
    write_once(pool.folder.stop, {"by": getpass.getuser(), "host": socket.gethostname(), "t": time.time()})
    end = time.monotonic() + _PATIENCE
    while pool.live and not (pool.state == "closing" and pool.active_runs) and time.monotonic() < end:
        time.sleep(0.05)
        pool = PoolInfo(pool.folder)
    return pool


def _free_name(used: set[str]) -> str:
    return next(name for name in ("pool", *(f"pool-{number}" for number in range(2, 10**6))) if name not in used)


def _clean_up(workspace: Workspace) -> None:
    """Cancel the waiting jobs of pools whose daemon died, and remove the folders of pools that ended long ago."""
    for pool in folder.all_pools(workspace):
        if not pool.live and orphan_cleanup.cancel_orphaned_job(pool, workspace):
            ended = max(pool.written.written_at, float(pool.request["since"]))
            if time.time() - ended > _RETENTION:
                shutil.rmtree(pool.folder.path, ignore_errors=True)
