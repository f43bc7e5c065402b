"""Whoever looks after a pool's job when its holder was killed: a process that waits on a pipe which only that held.

A job that runs ends by itself, with the last run on it: its worker has lost its scheduler. One that still waits in the
queue would wait on for nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from mlnb.errors import MlnbError
from mlnb.node.process.identity import process_identity, wait_for_exit
from mlnb.targets.batch import queue_listing
from mlnb.targets.pool.folder import Known, PoolDir

_PATIENCE = 600.0
_GOING = 60.0
_STEP = 2.0
_FORGOTTEN = 3600.0
"""Seconds after which a job that the queue does not list is none that it has yet to list."""


def fork(folder: PoolDir) -> None:
    """Leave an heir behind. To be called before there are threads, or anything that it should not hold open."""
    holder = os.getpid(), process_identity(os.getpid()) or ""
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
        wait_for_exit(*holder, _GOING)  # its files are closed a moment before it is gone
        tidy(Known(folder), _PATIENCE)
        code = 0
    finally:
        os._exit(code)


def tidy(pool: Known, patience: float = 0.0) -> bool:
    """Take the job of a pool whose holder is dead out of the queue while it waits there; whether none is left waiting.

    Parameters
    ----------
    patience
        seconds in which it may appear there (a submission outlives who began it), and the system may come back.
    """
    if pool.held or pool.written.state == "ended":
        return True
    for path in pool.folder.credentials():
        path.unlink(missing_ok=True)
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(MlnbError):
            if _take_down(pool):
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(_STEP)


def _take_down(pool: Known) -> bool:
    """Whether its job was found, and waits no more; or it is so long ago that the queue has forgotten it."""
    from mlnb.targets.pool.allocation import system_of

    system = system_of(pool)
    seen = queue_listing.listing(system)
    if seen.error:
        return False
    ours = f"mlnb:{pool.id}"  # its number may not have come to be written
    found = {
        number: job
        for number, job in seen.jobs.items()
        if number in pool.written.jobs or job.about.get("comment") == ours
    }
    waiting = [number for number, job in found.items() if job.state == "pending"]
    for number in waiting:
        system.cancel(number)
        queue_listing.forget(system)
    forgotten = time.time() - max(pool.written.written, float(pool.asked["since"])) > _FORGOTTEN
    return not waiting and (bool(found) or forgotten)
