"""Why the batch system ends a job: SLURM says so in the job's own log, and nowhere else while the job may read it."""

from __future__ import annotations

import os
import re

from mlnb.rundir import RunDir

_SAID = re.compile(rb"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ DUE TO ([A-Z]+(?: [A-Z]+)*)")

_WORDS = {
    b"PREEMPTION": "preempted: it had to make room for a job of higher priority",
    b"JOB REQUEUE": "sent back to the queue (scontrol requeue)",
    b"TIME LIMIT": "out of time: its batch system ended it",
    b"NODE FAILURE": "one of its nodes failed",
}


class SlurmEndCause:
    """What is written into a run's job log from now on.

    Parameters
    ----------
    run
        the run directory.
    """

    def __init__(self, run: RunDir) -> None:
        # each submission has a log of its own, in the attempt it was made for, and a job that is queued again appends
        logs = (attempt.job_log for attempt in reversed(run.attempts()))
        self._path = next((path for path in logs if path.exists()), None)
        self._from = 0 if self._path is None else self._path.stat().st_size

    def words(self) -> str:
        """Why, in words; empty if nothing is said."""
        if self._path is None:
            return ""
        try:
            with self._path.open("rb") as file:
                file.seek(max(self._from, file.seek(0, os.SEEK_END) - 65536))
                said = _SAID.findall(file.read())
        except OSError:  # a network file system that is away: the signal itself is reason enough
            return ""
        return _WORDS.get(said[-1], "") if said else ""
