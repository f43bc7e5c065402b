"""Starting and stopping pools."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import check_trusted, storage_errors, write_atomic, write_json
from mlnb.targets import warm
from mlnb.targets.base import Placement
from mlnb.targets.environment import passed
from mlnb.targets.node_zip import bundle
from mlnb.targets.pool import folder, orphan_cleanup
from mlnb.targets.pool.folder import Known, PoolDir
from mlnb.task import Resources

IDLE = 15 * 60
"""Seconds without a run after which a pool ends, unless ``--idle`` says otherwise."""

_QUIET = {"DASK_LOGGING__DISTRIBUTED": "warning"}
_PATIENCE = 60.0
_KEPT = 86400.0
"""Seconds for which the folder of a pool that has ended is kept."""


def start(on: str, asked: Resources, placement: Placement, *, name: str | None, idle: int | None) -> tuple[Known, str]:
    """Start a pool and wait until its job is in the queue; the pool, and in words what it has.

    Raises
    ------
    UsageError
        for what it can't be.
    MlnbError
        if it can't be started; then nothing is left behind.
    """
    from mlnb.targets.pool.allocation import batch_target

    place = batch_target(on)
    _tidy()
    there = {pool.name for pool in folder.known() if pool.live}
    name = name or _free(there)
    if name in there:
        raise UsageError(f"--name {name}: there is a pool of that name; mlnb pool stop {name} ends it")
    offer = place.offer(asked, replace(placement, name=name))
    if offer.resources.nodes > 1:
        raise UsageError(f"--nodes {offer.resources.nodes}: a pool has one node")
    made = PoolDir(folder.root() / f"{name}-{secrets.token_hex(3)}")
    with storage_errors(made.path):
        folder.root().mkdir(mode=0o700, parents=True, exist_ok=True)
        check_trusted(folder.root(), "no pool is put there")
        made.path.mkdir(mode=0o700)
        made.job.attempt(1).path.mkdir(mode=0o700, parents=True)
    write_atomic(made.job.bundle, bundle().data)
    write_json(
        made.asked,
        {
            "name": name,
            "on": on,
            "cluster": place.system.cluster,
            "resources": asdict(offer.resources),
            "about": dict(offer.about),
            "idle": idle or IDLE,
            "since": time.time(),
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "bundle": bundle().digest,
        },
    )
    return _await(made, _spawn(made, place.system.site)), "; ".join(offer.summary_lines)


def _spawn(made: PoolDir, site: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with made.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlnb.targets.pool.daemon", str(made.path)],
            env=passed({**_system_variables(), **site, "MLNB_RUNS": str(folder.root().parent), **_QUIET}),
            cwd=made.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    warm.reap(process)
    return process


def _system_variables() -> dict[str, str]:
    """What the batch systems' own commands need."""
    from mlnb.targets.batch import load_system, submit_commands

    return {n: value for kind in submit_commands() for n, value in load_system(kind)({}).environment().items()}


def _await(made: PoolDir, process: subprocess.Popen[bytes]) -> Known:
    """The pool when its job is submitted.

    Raises
    ------
    MlnbError
        if that can't be.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        ended, pool = process.poll() is not None, Known(made)
        if pool.written.state == "ended":
            shutil.rmtree(made.path, ignore_errors=True)
            raise MlnbError(f"the pool could not be started: {pool.written.reason}")
        if pool.written.jobs:
            return pool
        if ended:
            if pool.written.state == "closing":
                raise MlnbError(f"the pool could not be started: {pool.written.reason}")
            said = made.log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise MlnbError(f"the pool's holder ended with exit code {process.returncode} ({made.log}): {said}")
        if time.monotonic() > end:
            raise MlnbError(f"the pool's job is not submitted yet; mlnb pool list tells of it, {made.log} may say why")
        time.sleep(0.02)


def stop(name: str | None) -> Known:
    """Have a pool end: at once, or with the last run on it.

    Raises
    ------
    UsageError
        if there is none, or several without a name.
    """
    pool = folder.choose(name)
    try:
        with storage_errors(pool.folder.stop), open(pool.folder.stop, "x", opener=_private) as file:
            json.dump({"by": getpass.getuser(), "host": socket.gethostname(), "t": time.time()}, file)
    except FileExistsError:
        pass  # somebody was faster
    end = time.monotonic() + _PATIENCE
    while pool.live and not (pool.state == "closing" and pool.busy) and time.monotonic() < end:
        time.sleep(0.05)
        pool = Known(pool.folder)
    return pool


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _free(there: set[str]) -> str:
    return next(name for name in ("pool", *(f"pool-{number}" for number in range(2, 10**6))) if name not in there)


def _tidy() -> None:
    """Look after what dead holders have left, and clear away what is long over."""
    for pool in folder.known():
        if not pool.live and orphan_cleanup.tidy(pool):
            ended = max(pool.written.written, float(pool.asked["since"]))
            if time.time() - ended > _KEPT:
                shutil.rmtree(pool.folder.path, ignore_errors=True)
