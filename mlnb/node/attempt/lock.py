"""Lock an attempt for one node program per node, so that no second one runs the same ranks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from mlnb.node.attempt import job_environment
from mlnb.node.process.identity import in_other_namespace, is_alive, process_identity
from mlnb.rundir import Attempt, read_json_fresh

PATIENCE = 15.0
"""Seconds within which a live program on another machine writes its next heartbeat."""

_POLL = 0.2


def acquire(attempt: Attempt, node: int) -> dict[str, Any] | None:
    """Lock this attempt for this process, as the program of ``node``.

    The lock is a file that must not exist before, which network file systems can ensure, too. If no file can be
    written, as on a full disk, the program runs without the lock.

    Returns
    -------
    dict or None
        ``None`` if the lock was acquired; else its owner (``pid``, ``identity``, ``host``, ``t``).
    """
    path = attempt.lock(node)
    with contextlib.suppress(OSError):
        attempt.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read_json_fresh(path) or {}
    except OSError:
        return None
    pid = os.getpid()
    owner = {"pid": pid, "identity": process_identity(pid), "host": job_environment.host_name(), "t": time.time()}
    with contextlib.suppress(OSError), os.fdopen(file, "w") as opened:  # on a full disk the lock names no owner
        json.dump(owner, opened)
    return None


def owner_is_alive(attempt: Attempt, node: int, owner: dict[str, Any]) -> bool:
    """Whether the lock's owner lives. If it runs on another machine, its heartbeats decide."""
    identity = str(owner.get("identity") or "")
    if identity and not in_other_namespace(identity):
        return is_alive(int(owner["pid"]), identity)
    path = attempt.heartbeat(node)
    first, end = read_json_fresh(path), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        beat = read_json_fresh(path)
        if (beat or {}).get("ended"):
            return False
        if beat != first:
            return True
        time.sleep(_POLL)
    return False


def conflict_message(attempt: Attempt, owner: dict[str, Any]) -> str:
    """Why a second program exits."""
    process = f"process {owner.get('pid')} on {owner.get('host')}"
    return f"attempt {attempt.number} of run {attempt.path.parents[1].name} is run by {process} already; exiting"
