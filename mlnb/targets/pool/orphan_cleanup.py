"""Cancels the waiting job of a pool whose daemon was killed: a process that waits for the end of a pipe.

Only the daemon holds the pipe's other end, so that the kernel closes it however the daemon dies. A running job needs
no cleanup: its worker has lost its scheduler, so it ends with the last run on it. A job that still waits in the queue
would start for nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from mlnb.errors import MlnbError
from mlnb.node.process.identity import process_identity, wait_for_exit
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.pool.folder import PoolDir, PoolInfo
from mlnb.workspace import Workspace

_PATIENCE = 600.0
"""Seconds for which cancelling is tried again."""

_EXIT_PATIENCE = 60.0
"""Seconds to wait for the exit of the daemon after the pipe was closed."""

_INTERVAL = 2.0
_FORGOTTEN = 3600.0
"""Seconds after the last sign of a pool after which a job that the queue does not list won't appear any more."""


def fork(folder: PoolDir, workspace: Workspace) -> None:
    """Fork the process that cleans up after this one, the daemon.

    Call it before there are threads, or open files that it should not keep open.
    """
    daemon = os.getpid(), process_identity(os.getpid()) or ""
    read, write = os.pipe()
    os.set_inheritable(write, False)
    if os.fork():
        os.close(read)
        return
    code = 1
    try:
        os.close(write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while os.read(read, 1):
            pass
        wait_for_exit(*daemon, _EXIT_PATIENCE)
        cancel_orphaned_job(PoolInfo(folder), workspace, _PATIENCE)
        code = 0
    finally:
        os._exit(code)


def cancel_orphaned_job(pool: PoolInfo, workspace: Workspace, patience: float = 0.0) -> bool:
    """Cancel the waiting job of a pool whose daemon is dead; returns whether no job is left waiting.

    Parameters
    ----------
    pool
        the pool; nothing happens if its daemon lives or has ended the pool itself.
    patience
        seconds for which to try again: the job may appear late, since a submission outlives the process that began
        it, and the batch system may not answer at first.
    """
    if pool.daemon_alive or pool.written.state == "ended":
        return True
    for path in pool.folder.credentials():
        path.unlink(missing_ok=True)
    end = time.monotonic() + patience
    cancelled: set[str] = set()
    while True:
        with contextlib.suppress(MlnbError):
            if _cancel_waiting(pool, workspace, cancelled):
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(_INTERVAL)


def _cancel_waiting(pool: PoolInfo, workspace: Workspace, cancelled: set[str]) -> bool:
    """Cancel the pool's waiting jobs; returns whether none waits and none can appear any more.

    ``cancelled`` has the ids of the jobs that were cancelled before; new ones are added.
    """
    from mlnb.targets.pool.allocation import system_of

    system = system_of(pool, workspace)
    listing = queue_listing.list_queue(system)
    if listing.error:
        return False
    comment = f"mlnb:{pool.id}"  # the daemon may have died before it could write the job's id
    jobs = {
        job_id: job
        for job_id, job in listing.jobs.items()
        if job_id in pool.written.jobs or job.details.get("comment") == comment
    }
    waiting = [job_id for job_id, job in jobs.items() if job.state == "pending"]
    for job_id in waiting:
        system.cancel(job_id)
        cancelled.add(job_id)
        queue_listing.expire(system)
    forgotten = time.time() - max(pool.written.written_at, float(pool.request["since"])) > _FORGOTTEN
    return not waiting and (bool(jobs) or bool(cancelled) or forgotten)
