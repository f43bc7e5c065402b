"""How a run ended whose job ended without a result of its own: what its system says, and what the job printed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json, write_json
from mlnb.targets.base import Status
from mlnb.targets.batch.system import LOG, QueuedJob

_STATES = {"cancelled": "cancelled", "vanished": "lost", "completed": "lost"}
"""A run's state by the cause of its job's end; every other is a failure."""

_TAIL = 4096
_GIST = 300


def note(run: RunDir, handle: Mapping[str, Any], state: str, reason: str, code: str = "") -> Status:
    """Write down how a job ended, so that nobody need ask for it again."""
    with contextlib.suppress(MlnbError, FileNotFoundError):  # who may not write here, or a run that was removed
        known = {"job": handle.get("job"), "attempt": len(run.attempts()), "state": state, "reason": reason}
        write_json(run.ended, {**known, "code": code})
    return Status(False, state, reason)


def noted(run: RunDir, handle: Mapping[str, Any]) -> Status | None:
    """What :func:`note` wrote of the job of ``handle``; ``None`` if nothing."""
    ended = read_json(run.ended)
    if ended is None or ended.get("job") != handle.get("job"):
        return None
    if ended.get("attempt") != len(run.attempts()):  # the next is being submitted, or an administrator had it queued
        return None
    return Status(False, str(ended["state"]), str(ended["reason"]))


def end(run: RunDir, handle: Mapping[str, Any], job: QueuedJob, words: str) -> Status:
    """Note how ``job`` ended.

    Parameters
    ----------
    words
        how, as the system has it: a sentence without its subject.
    """
    reason = f"job {handle['job']}: {words}"
    said = _printed(run, int(handle.get("attempt", 1)))
    if said and job.cause not in ("cancelled", "vanished"):
        reason += f", before the node program began; it printed: {said}"
    state = _STATES.get(job.cause, "failed")
    return note(run, handle, state, f"{reason}; it left no account" if state == "lost" else reason, job.code)


def _printed(run: RunDir, attempt: int) -> str:
    """The gist of what the job printed; empty if the node program has begun, whose own account says more."""
    attempts = run.attempts()
    if not attempts or attempts[-1].events(0).exists():
        return ""
    try:
        with (run.attempt(attempt).path / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:  # it printed nothing
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    gist = " / ".join(line for line in lines[-3:] if line)
    return f"…{gist[-_GIST:]}" if len(gist) > _GIST else gist
