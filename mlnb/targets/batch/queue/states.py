"""Finds the states of a batch system's runs: from their files if possible, else from one listing of the queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json, read_json_fresh, write_json
from mlnb.runinfo import RunInfo
from mlnb.targets.base import SUBMITTING, Status
from mlnb.targets.batch.queue import ends
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue.listing import Listing
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import LOG
from mlnb.targets.batch.system import System
from mlnb.task import Task
from mlnb.units import format_time

HEARTBEAT_TIMEOUT = 15.0
"""Seconds for which a heartbeat shows that a job is running, so that the system need not be queried."""

SUBMISSION_TIMEOUT = 60.0
"""Seconds after which the submission of a run without a job counts as interrupted."""

ACCOUNTING_DELAY = 60.0
"""Seconds after which accounting, once it answers again, knows what happened while it did not."""

CANCELLER_DELAY = 10.0
"""Seconds after which accounting knows of an end that the queue already shows."""

_JOB_ID_REUSED = 3600.0
"""A job that was submitted this many seconds before a run is not the run's: systems reuse job ids."""

_TIME_LIMIT_SLACK = 600.0
"""Seconds after its time limit within which the system has ended a job."""

_CLOCK_SKEW = 10.0
"""Seconds by which clocks of machines that share runs may differ."""


class States:
    """Finds the states of the runs of one target.

    Parameters
    ----------
    target
        its name.
    system
        the batch system.
    interval
        seconds between two listings of the queue.
    """

    def __init__(self, target: str, system: System, interval: float) -> None:
        self._target, self._system, self._interval = target, system, interval

    def of(self, runs: Sequence[RunDir]) -> list[Status]:
        """The states of these runs. The system is queried only for those whose files don't show their state."""
        statuses: dict[int, Status] = {}
        unsettled: dict[int, dict[str, Any]] = {}
        for index, run in enumerate(runs):
            handle = read_json(run.handle) or {}
            status = ends.read_end(run, handle)
            if status is None and has_heartbeat(run):
                status = Status(True, "running")
            if status is not None:
                statuses[index] = status
            else:
                unsettled[index] = handle
        for cluster in {_cluster(handle) for handle in unsettled.values() if handle} - {self._system.cluster}:
            indices = [index for index, handle in unsettled.items() if handle and _cluster(handle) == cluster]
            on_cluster = States(self._target, self._system.on_cluster(cluster), self._interval)
            statuses |= dict(zip(indices, on_cluster.of([runs[index] for index in indices]), strict=True))
            unsettled = {index: handle for index, handle in unsettled.items() if index not in statuses}
        if unsettled:
            newest = max(float(handle.get("submitted", 0.0)) for handle in unsettled.values())
            listing = queue_listing.list_queue(self._system, self._interval, after=newest)
            missing = {}
            for index, handle in unsettled.items():
                status = self._status(runs[index], handle, listing)
                if status is None:
                    missing[index] = handle
                else:
                    statuses[index] = status
            statuses |= self._from_accounting(runs, missing, listing)
        return [statuses[index] for index in range(len(runs))]

    def adopt(self, run: RunDir, jobs: Mapping[str, QueuedJob]) -> dict[str, Any]:
        """Find the job of a run without a handle by its comment, and write the handle. Returns it.

        A run has no handle if the session died before it could write it. Empty if there is no such job.
        """
        match = job_of(run, jobs)
        if match is None:
            return {}
        number, job = match
        handle = {
            "target": self._target,
            "kind": self._system.kind,
            "job": number,
            **({"cluster": self._system.cluster} if self._system.cluster else {}),
            "submitted": _submitted(job),
            "attempt": max(1, len(run.attempts()) - int(job.details.get("restarts") or 0)),
        }
        with contextlib.suppress(
            MlnbError, FileNotFoundError
        ):  # without permission to write, the run can still be read
            write_json(run.handle, handle)
        return handle

    def _status(self, run: RunDir, handle: dict[str, Any], listing: Listing) -> Status | None:
        """The state of one run according to the queue; ``None`` if accounting has to be queried."""
        if not handle:
            handle |= read_json_fresh(run.handle) or self.adopt(run, listing.jobs)
        if not handle:
            return self._without_job(run, listing)
        job = listing.jobs.get(str(handle["job"]))
        if job is None:
            if listing.error:
                return Status(None, "pending", listing.error)
            # a cancelled job has ended as soon as it is not listed: not every system lists ended jobs
            if listing.time < float(handle.get("submitted", 0.0)) + _CLOCK_SKEW and not run.cancel.exists():
                return Status(True, "pending", f"Submitted to {self._system.display_name} as job {handle['job']}")
            return None
        if job.state == "ended":
            if job.cause == "cancelled" and self._system.accounting_lags and not run.cancel.exists():
                return None
            return ends.end_of(run, handle, job, self._explain(run, handle, job))
        if job.cleaning_up and run.cancel.exists():
            return ends.end_of(run, handle, replace(job, cause="cancelled"), "was cancelled")
        if job.state == "running" and job.reason:  # such as a suspended job
            return Status(True, "running", job.reason)
        if job.state == "running":
            where = f" on {', '.join(job.nodes)}" if job.nodes else ""
            return Status(True, "starting", f"starting Python{where}…")
        if _has_log(run, handle, listing):
            return Status(True, "starting", "starting Python…")
        return Status(True, "pending", self._waiting(run, handle, job, listing))

    def _without_job(self, run: RunDir, listing: Listing) -> Status:
        """The state of a run without a job: it is being submitted, or its submission was interrupted."""
        attempts = run.attempts()
        began = max([RunInfo.read(run).submitted, *(last.path.stat().st_mtime for last in attempts[-1:])])
        if listing.error:
            return Status(None, "pending", listing.error)
        if listing.time - began < SUBMISSION_TIMEOUT:
            return Status(None, "pending", SUBMITTING)
        reason = f"its submission was interrupted: {self._system.display_name} has no job of it"
        return ends.write_end(run, {}, "lost", reason)

    def _explain(self, run: RunDir, handle: Mapping[str, Any], job: QueuedJob) -> str:
        resources = Task.from_json(read_json(run.task) or {"script": ""}).resources
        return self._system.explain(str(handle["job"]), job, resources)

    def _waiting(self, run: RunDir, handle: Mapping[str, Any], job: QueuedJob, listing: Listing) -> str:
        name = self._system.display_name
        parts = [self._explain(run, handle, job) or f"Waiting in the queue ({job.code})"]
        if job.start is not None and job.start > time.time():
            parts.append(f"{name} expects it to start in {format_time(job.start - time.time())}")
        if listing.error:
            parts.append(f"as of {format_time(time.time() - listing.answered)} ago: {listing.error}")
        return "; ".join(parts)

    def _from_accounting(
        self, runs: Sequence[RunDir], missing: Mapping[int, Mapping[str, Any]], listing: Listing
    ) -> dict[int, Status]:
        """The states of runs whose jobs the queue no longer lists, or does not say who cancelled."""
        if not missing:
            return {}
        jobs = [str(handle["job"]) for handle in missing.values()]
        accounting = queue_listing.list_ended(self._system, jobs, self._interval)
        statuses = {}
        for index, handle in missing.items():
            run, job = runs[index], str(handle["job"])
            end = self._end(run, handle, listing.jobs.get(job), accounting)
            if end is not None:
                statuses[index] = ends.end_of(run, handle, end, self._explain(run, handle, end))
                continue
            state = "running" if _has_begun(run) else "pending"
            statuses[index] = Status(None, state, self._waiting_for_accounting(job, listing, accounting))
        return statuses

    def _waiting_for_accounting(self, job: str, listing: Listing, accounting: Listing) -> str:
        if job in listing.jobs:
            return f"job {job} {listing.jobs[job].reason}; waiting for accounting to report by whom"
        gone = f"{self._system.display_name} no longer has job {job} in its queue"
        if accounting.error:
            return f"{gone}, and how it ended isn't known: {accounting.error}"
        if job in accounting.jobs and accounting.jobs[job].state != "ended":
            return f"{gone}, but accounting reports {accounting.jobs[job].code or accounting.jobs[job].state}"
        return f"{gone}; waiting for accounting to report how it ended"

    def _end(
        self, run: RunDir, handle: Mapping[str, Any], queued: QueuedJob | None, accounting: Listing
    ) -> QueuedJob | None:
        """How a job ended; ``None`` if accounting may still report it, which takes minutes if it was down at that time.

        Parameters
        ----------
        queued
            the job with its end, if the queue lists it.
        """
        job = str(handle["job"])
        recorded = accounting.jobs.get(job)
        if recorded is not None and (_has_reused_id(handle, recorded) or _is_outdated(recorded)):
            recorded = None
        if queued is None and recorded is None and run.cancel.exists() and not _has_begun(run):
            return self._system.vanished(job, accounting.jobs)  # SLURM does not record all jobs that never started
        if accounting.error:
            return queued
        waited = accounting.time - accounting.answering_since.get(job, accounting.time)
        if queued is not None:
            if recorded is not None and recorded.cause == queued.cause:
                return recorded
            return queued if waited >= CANCELLER_DELAY or (recorded and recorded.cause == "vanished") else None
        if recorded is not None and recorded.state == "ended":
            return recorded
        if (recorded is not None or self._system.accounting_lags) and waited < ACCOUNTING_DELAY:
            return None
        if recorded is not None and not run.cancel.exists() and not _is_overdue(run, recorded):
            return None  # accounting reports that it still exists
        return self._system.vanished(job, accounting.jobs)


def job_of(run: RunDir, jobs: Mapping[str, QueuedJob]) -> tuple[str, QueuedJob] | None:
    """Id and job of a run's newest attempt, found among ``jobs`` by its comment; ``None`` if it is not there."""
    comment = _comment(run)
    candidates = [
        (_submitted(job), number, job)
        for number, job in jobs.items()
        if job.details.get("comment") == comment and not _is_earlier_attempt(run, number, job)
    ]
    return max(candidates, key=lambda candidate: candidate[:2])[1:] if candidates else None


def _comment(run: RunDir) -> str:
    """The comment of a run's newest job. Attempts without a script are restarts of the job before."""
    submitted = next((attempt for attempt in reversed(run.attempts()) if attempt.job_script.exists()), None)
    task = read_json(submitted.array) if submitted else None
    return f"mlnb:{task['array']}_{task['task']}" if task else f"mlnb:{run.path.name}"


def has_heartbeat(run: RunDir) -> bool:
    """Whether the newest attempt's first node has a fresh heartbeat, and has not ended."""
    attempts = run.attempts()
    heartbeat = read_json(attempts[-1].heartbeat(0)) if attempts else None
    if heartbeat is None or heartbeat.get("ended") or abs(time.time() - float(heartbeat["t"])) >= HEARTBEAT_TIMEOUT:
        return False
    result = read_json(run.result)
    return result is None or int(result.get("attempt", 1)) < attempts[-1].number


def has_result(run: RunDir) -> bool:
    """Whether the newest attempt has written its result."""
    result = read_json(run.result)
    return result is not None and int(result.get("attempt", 1)) >= len(run.attempts())


def _cluster(handle: Mapping[str, Any]) -> str:
    return str(handle.get("cluster", ""))


def _has_log(run: RunDir, handle: Mapping[str, Any], listing: Listing) -> bool:
    """Whether the job has started since the queue was listed: the system then opens its log."""
    attempt = run.attempt(int(handle.get("attempt", 1)))
    if attempt.events(0).exists():
        return False  # the job was queued again: the log is older
    try:
        return (attempt.path / LOG).stat().st_mtime >= listing.time - 1.0
    except OSError:
        return False


def _has_begun(run: RunDir) -> bool:
    """Whether the newest attempt's node program has started."""
    attempts = run.attempts()
    return bool(attempts) and attempts[-1].heartbeat(0).exists()


def _has_reused_id(handle: Mapping[str, Any], job: QueuedJob) -> bool:
    """Whether this is an earlier job with the same id."""
    submitted = _submitted(job)
    return bool(submitted) and submitted + _JOB_ID_REUSED < float(handle.get("submitted", 0.0))


def _is_outdated(recorded: QueuedJob) -> bool:
    """Whether accounting lists the task of an array that has left the queue with those that wait.

    SLURM 22.05 corrects that line only when a task of the array starts.
    """
    return recorded.state == "pending" and bool(recorded.details.get("array"))


def _is_overdue(run: RunDir, job: QueuedJob) -> bool:
    """Whether a job that accounting calls running is long past its time limit: slurmdbd may have missed its end."""
    limit = Task.from_json(read_json(run.task) or {"script": ""}).resources.time
    if job.state != "running" or job.start is None or limit is None:
        return False
    return time.time() > job.start + limit + _TIME_LIMIT_SLACK


def _submitted(job: QueuedJob) -> float:
    return float(job.details.get("submitted") or 0.0)


def _is_earlier_attempt(run: RunDir, number: str, job: QueuedJob) -> bool:
    """Whether a job of this run belongs to an attempt before the one that is being submitted."""
    if (read_json(run.ended) or {}).get("job") == number:
        return True
    attempts = run.attempts()
    begun = attempts[-1].path.stat().st_mtime if attempts else 0.0
    return run.result.exists() and _submitted(job) + 1.0 < begun  # systems report full seconds
