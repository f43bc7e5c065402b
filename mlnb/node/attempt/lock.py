"""Each attempt has one node program a node: whoever comes second must not start what the first one runs."""

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
"""Seconds in which a program on another machine has written its next heartbeat, if it lives."""

_STEP = 0.2


def acquire(attempt: Attempt, node: int) -> dict[str, Any] | None:
    """Have this process be the one of ``node`` in this attempt; ``None``, or who is already.

    It is taken by making a file that must not be there, which network file systems can do too. Where none can be made,
    as on a full disk, a program starts without.
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
    said = {"pid": pid, "identity": process_identity(pid), "host": job_environment.host_name(), "t": time.time()}
    with os.fdopen(file, "w") as opened, contextlib.suppress(OSError):
        json.dump(said, opened)
        opened.flush()
    return None


def owner_is_alive(attempt: Attempt, node: int, other: dict[str, Any]) -> bool:
    """Whether the program that has taken ``attempt`` lives; of one that can't be seen its heartbeat tells."""
    known = str(other.get("identity") or "")
    if known and not in_other_namespace(known):
        return is_alive(int(other["pid"]), known)
    path = attempt.heartbeat(node)
    first, end = read_json_fresh(path), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        beat = read_json_fresh(path)
        if (beat or {}).get("ended"):
            return False
        if beat != first:
            return True
        time.sleep(_STEP)
    return False


def conflict_message(attempt: Attempt, other: dict[str, Any]) -> str:
    """Why a second program does not start."""
    by = f"process {other.get('pid')} on {other.get('host')}"
    return f"attempt {attempt.number} of run {attempt.path.parents[1].name} is that of {by}: this one ends"
