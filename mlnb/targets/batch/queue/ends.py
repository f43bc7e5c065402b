"""Records how a job ended without a result of its run: from the batch system's report and the job's log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json, write_json
from mlnb.targets.base import Status
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import LOG

_STATES = {"cancelled": "cancelled", "vanished": "lost", "completed": "lost"}
"""A run's state, by the cause of its job's end; ``failed`` for all other causes."""

_TAIL = 4096
"""Bytes to read from the end of the job's log."""

_EXCERPT = 300
"""Characters of the log to show."""


def write_end(run: RunDir, handle: Mapping[str, Any], state: str, reason: str, code: str = "") -> Status:
    """Write how a job ended to ``ended.json``, so that the system need not be queried again. Returns the status."""
    with contextlib.suppress(MlnbError, FileNotFoundError):  # no permission to write here, or the run was removed
        end = {"job": handle.get("job"), "attempt": len(run.attempts()), "state": state, "reason": reason}
        write_json(run.ended, {**end, "code": code})
    return Status(False, state, reason)


def read_end(run: RunDir, handle: Mapping[str, Any]) -> Status | None:
    """The end that :func:`write_end` wrote for the job of ``handle``; ``None`` if there is none."""
    ended = read_json(run.ended)
    if ended is None or ended.get("job") != handle.get("job"):
        return None
    if ended.get("attempt") != len(run.attempts()):  # the next is being submitted, or an administrator requeued the job
        return None
    return Status(False, str(ended["state"]), str(ended["reason"]))


def end_of(run: RunDir, handle: Mapping[str, Any], job: QueuedJob, explanation: str) -> Status:
    """The status of a run whose job has ended; writes it to ``ended.json``, too.

    Parameters
    ----------
    explanation
        how the job ended: a sentence without its subject.
    """
    reason = f"job {handle['job']}: {explanation}"
    excerpt = _log_excerpt(run, int(handle.get("attempt", 1)))
    if excerpt and job.cause not in ("cancelled", "vanished"):
        reason += f", before the node program began; it printed: {excerpt}"
    state = _STATES.get(job.cause, "failed")
    return write_end(run, handle, state, f"{reason}; it wrote no result" if state == "lost" else reason, job.code)


def _log_excerpt(run: RunDir, attempt: int) -> str:
    """The last lines of the job's log; empty if the node program has started, since its own files say more."""
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
    excerpt = " / ".join(line for line in lines[-3:] if line)
    return f"…{excerpt[-_EXCERPT:]}" if len(excerpt) > _EXCERPT else excerpt
