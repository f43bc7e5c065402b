"""Cancels the jobs of runs, and confirms in the queue that they are gone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import RunInfo
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue import states
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import SubmittedJob
from mlnb.targets.batch.system import System

TIMEOUT = 30.0
"""Seconds that a job has to leave the queue, and to appear in it while it is being submitted."""

_STEP = 0.25


class Canceller:
    """Cancels runs of one target.

    Parameters
    ----------
    system
        the batch system.
    interval
        seconds between two listings of the queue.
    run_states
        finds the jobs of runs that have no handle.
    submitted
        the jobs that this process has submitted, by run.
    """

    def __init__(
        self, system: System, interval: float, run_states: states.States, submitted: Mapping[str, SubmittedJob]
    ) -> None:
        self._system, self._interval = system, interval
        self._states, self._submitted = run_states, submitted

    def cancel(self, runs: Sequence[RunDir]) -> list[bool]:
        """End the jobs of these runs, whose ``cancel.json`` is written; for each run, whether its job is gone.

        Raises
        ------
        MlnbError
            if the system does not answer.
        """
        jobs = self._jobs_of(runs)
        gone = [job is None for job in jobs]
        for cluster in {job.cluster for job in jobs if job is not None}:
            indices = {job.job: index for index, job in enumerate(jobs) if job is not None and job.cluster == cluster}
            by_id = {job: runs[index] for job, index in indices.items()}
            for job in end_jobs(self._system.on_cluster(cluster), by_id, self._interval):
                gone[indices[job]] = True
        return gone

    def _jobs_of(self, runs: Sequence[RunDir]) -> list[SubmittedJob | None]:
        """The jobs of runs; waits if another session is submitting them now. ``None`` for a run without a job."""
        end = time.monotonic() + TIMEOUT
        jobs: dict[int, SubmittedJob] = {}
        while True:
            missing = []
            for index, run in enumerate(runs):
                handle = read_json(run.handle) or {}
                if handle:
                    jobs[index] = _from_handle(handle)
                elif run.path.name in self._submitted:
                    jobs[index] = self._submitted[run.path.name]
                elif index not in jobs:
                    missing.append(index)
            if missing:
                queue_listing.expire(self._system)
                listing = queue_listing.list_queue(self._system, 0.0)
                if listing.error:
                    raise MlnbError(listing.error)
                for index in missing:
                    if handle := self._states.adopt(runs[index], listing.jobs):
                        jobs[index] = _from_handle(handle)
            now = time.time()
            young = [
                index
                for index in missing
                if index not in jobs and now - RunInfo.read(runs[index]).submitted < states.SUBMISSION_TIMEOUT
            ]
            if not young or time.monotonic() > end:
                return [jobs.get(index) for index in range(len(runs))]
            time.sleep(_STEP * 2)


def end_jobs(system: System, runs: Mapping[str, RunDir], interval: float) -> set[str]:
    """End jobs, each as soon as its node program has ended, or had the time to write a checkpoint.

    Parameters
    ----------
    runs
        by job id.
    interval
        seconds between two listings of the queue.

    Returns
    -------
    set of str
        the ids of the jobs that are gone.
    """
    began = time.monotonic()
    grace_ends = {job: began + RunInfo.read(run).node.grace for job, run in runs.items()}
    cancelled = 0.0
    while grace_ends:
        due = [
            job
            for job, end in grace_ends.items()
            if not states.has_heartbeat(runs[job]) or time.monotonic() >= end  # with one, it writes its checkpoint
        ]
        if due:
            cancelled = time.time()
            system.cancel(*due)
        grace_ends = {job: end for job, end in grace_ends.items() if job not in due}
        if grace_ends:
            time.sleep(_STEP)
    queue_listing.expire(system)
    left = set(runs)
    end = time.monotonic() + max(TIMEOUT, 3 * interval)
    while time.monotonic() < end:
        left -= {job for job in left if states.has_result(runs[job])}
        if left:
            listing = queue_listing.list_queue(system, interval, after=cancelled)
            if listing.answered >= cancelled and not listing.error:
                left -= {job for job in left if _is_gone(listing.jobs.get(job))}
        if not left:
            break
        time.sleep(_STEP)
    return set(runs) - left


def _from_handle(handle: Mapping[str, object]) -> SubmittedJob:
    return SubmittedJob(str(handle["job"]), str(handle.get("cluster", "")))


def _is_gone(job: QueuedJob | None) -> bool:
    """Whether a job has ended. Its epilog may still run, which is not the run's."""
    return job is None or job.state == "ended" or job.cleaning_up
