"""Find out why SLURM ends a job: it writes the cause into the job's own log, and nowhere else while the job runs."""

from __future__ import annotations

import os
import re

from mlnb.rundir import RunDir

_CANCELLED = re.compile(rb"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ DUE TO ([A-Z]+(?: [A-Z]+)*)")
"""The line that slurmstepd writes into the log of a job that it ends."""

_REASONS = {
    b"PREEMPTION": "Preempted by a job of higher priority",
    b"JOB REQUEUE": "Sent back to the queue (scontrol requeue)",
    b"TIME LIMIT": "Out of time: the batch system ended the job",
    b"NODE FAILURE": "A node of the job failed",
}


class SlurmEndCause:
    """Reads what SLURM appends to a run's job log from now on.

    Parameters
    ----------
    run
        the run directory.
    """

    def __init__(self, run: RunDir) -> None:
        # each submission has its own log, in its first attempt; a job that is queued again appends to it
        logs = (attempt.job_log for attempt in reversed(run.attempts()))
        self._path = next((path for path in logs if path.exists()), None)
        self._start = 0 if self._path is None else self._path.stat().st_size

    def reason(self) -> str:
        """Why SLURM ends the job, for people; empty if the log doesn't say."""
        if self._path is None:
            return ""
        try:
            with self._path.open("rb") as file:
                file.seek(max(self._start, file.seek(0, os.SEEK_END) - 65536))
                causes = _CANCELLED.findall(file.read())
        except OSError:  # the network file system is away
            return ""
        return _REASONS.get(causes[-1], "") if causes else ""
