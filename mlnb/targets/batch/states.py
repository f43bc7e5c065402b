"""The states of a batch system's runs, from their own files first, then from one look at the queue for all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json, read_json_fresh, write_json
from mlnb.targets.base import Status
from mlnb.targets.batch import ends as batch_ends
from mlnb.targets.batch import queue_listing
from mlnb.targets.batch.system import LOG, QueuedJob, System
from mlnb.task import Task
from mlnb.units import format_time

FRESH = 15.0
"""Seconds for which a heartbeat says that a job runs, so that nobody need be asked."""

UNSUBMITTED = 60.0
"""Seconds after which a run of which no job is known is one whose submission died."""

SETTLES = 60.0
"""Seconds within which accounting that answers has heard of what happened while it was away."""

BY_WHOM = 10.0
"""Seconds within which accounting has heard of an end that the queue knows of."""

_OTHER = 3600.0
"""Seconds by which a job was submitted before a run if it is another's: systems begin anew with their numbers."""

_OVER = 600.0
"""Seconds by which systems may end a job later than its time is over."""

_SKEW = 10.0
"""Seconds by which clocks of machines that share runs may differ."""


class States:
    """What is known of the runs of one target.

    Parameters
    ----------
    target
        its name.
    system
        whom to ask.
    interval
        seconds between two looks at the queue.
    """

    def __init__(self, target: str, system: System, interval: float) -> None:
        self._target, self._system, self._interval = target, system, interval

    def of(self, runs: Sequence[RunDir]) -> list[Status]:
        """The states of these runs. Asks nobody about those whose own files tell."""
        found: dict[int, Status] = {}
        open_: dict[int, dict[str, Any]] = {}
        for index, run in enumerate(runs):
            handle = read_json(run.handle) or {}
            known = batch_ends.noted(run, handle)
            if known is None and beats(run):
                known = Status(True, "running")
            if known is not None:
                found[index] = known
            else:
                open_[index] = handle
        for cluster in {str(handle.get("cluster", "")) for handle in open_.values() if handle} - {self._system.cluster}:
            there = [index for index, handle in open_.items() if handle and str(handle.get("cluster", "")) == cluster]
            elsewhere = States(self._target, self._system.at(cluster), self._interval)
            found |= dict(zip(there, elsewhere.of([runs[index] for index in there]), strict=True))
            open_ = {index: handle for index, handle in open_.items() if index not in found}
        if open_:
            newest = max(float(handle.get("submitted", 0.0)) for handle in open_.values())
            seen = queue_listing.listing(self._system, self._interval, after=newest)
            missing = {}
            for index, handle in open_.items():
                status = self._status(runs[index], handle, seen)
                if status is None:
                    missing[index] = handle
                else:
                    found[index] = status
            found |= self._accounted(runs, missing, seen)
        return [found[index] for index in range(len(runs))]

    def adopt(self, run: RunDir, jobs: Mapping[str, QueuedJob]) -> dict[str, Any]:
        """The handle of a run that has none, found by its comment in the queue and written; empty if there is none.

        So it is where the session that submitted it died before it could note the job.
        """
        found = job_of(run, jobs)
        if found is None:
            return {}
        number, job = found
        handle = {
            "target": self._target,
            "kind": self._system.kind,
            "job": number,
            **({"cluster": self._system.cluster} if self._system.cluster else {}),
            "submitted": _submitted(job),
            "attempt": max(1, len(run.attempts()) - int(job.about.get("restarts") or 0)),
        }
        with contextlib.suppress(MlnbError, FileNotFoundError):  # who may not write here can follow it all the same
            write_json(run.handle, handle)
        return handle

    def _status(self, run: RunDir, handle: dict[str, Any], seen: queue_listing.Listing) -> Status | None:
        """What the queue says of one run's job; ``None`` if accounting may know of it, or more of it."""
        if not handle:
            handle |= read_json_fresh(run.handle) or self.adopt(run, seen.jobs)
        if not handle:
            return self._unsubmitted(run, seen)
        job = seen.jobs.get(str(handle["job"]))
        if job is None:
            if seen.error:
                return Status(None, "pending", seen.error)
            # one that was cancelled is gone as soon as it is not there: not every system keeps it in its list
            if seen.taken < float(handle.get("submitted", 0.0)) + _SKEW and not run.cancel.exists():
                return Status(True, "pending", f"submitted to {self._system.display_name} as job {handle['job']}")
            return None
        if job.state == "ended":
            if job.cause == "cancelled" and self._system.accounting_lags and not run.cancel.exists():
                return None
            return batch_ends.end(run, handle, job, self._words(run, handle, job))
        if job.ending and run.cancel.exists():
            return batch_ends.end(run, handle, replace(job, cause="cancelled"), "was cancelled")
        if job.state == "running" and job.words:  # suspended, say
            return Status(True, "running", job.words)
        if job.state == "running":
            where = f" on {', '.join(job.nodes)}" if job.nodes else ""
            return Status(True, "starting", f"starting Python{where}…")
        if _has_started(run, handle, seen):
            return Status(True, "starting", "starting Python…")
        return Status(True, "pending", self._waiting(run, handle, job, seen))

    def _unsubmitted(self, run: RunDir, seen: queue_listing.Listing) -> Status:
        """No job is known: it is being submitted at this moment, or whoever did that died."""
        attempts = run.attempts()
        about = read_json(run.run) or {}
        began = max([float(about.get("submitted", 0.0)), *(one.path.stat().st_mtime for one in attempts[-1:])])
        if seen.error:
            return Status(None, "pending", seen.error)
        if seen.taken - began < UNSUBMITTED:
            return Status(None, "pending", "being submitted")
        words = f"its submission was interrupted: {self._system.display_name} has no job of it"
        return batch_ends.note(run, {}, "lost", words)

    def _words(self, run: RunDir, handle: Mapping[str, Any], job: QueuedJob) -> str:
        resources = Task.from_json(read_json(run.task) or {"script": ""}).resources
        return self._system.explained(str(handle["job"]), job, resources)

    def _waiting(self, run: RunDir, handle: Mapping[str, Any], job: QueuedJob, seen: queue_listing.Listing) -> str:
        parts = [self._words(run, handle, job) or f"waits in the queue ({job.code})"]
        if job.start is not None and job.start > time.time():
            parts.append(f"{self._system.display_name} expects it to start in {format_time(job.start - time.time())}")
        if seen.error:
            parts.append(f"last heard {format_time(time.time() - seen.heard)} ago, since {seen.error}")
        return "; ".join(parts)

    def _accounted(
        self, runs: Sequence[RunDir], missing: Mapping[int, Mapping[str, Any]], seen: queue_listing.Listing
    ) -> dict[int, Status]:
        """Jobs that the queue has forgotten, or does not say of who cancelled them: accounting may know."""
        if not missing:
            return {}
        told = queue_listing.accounts(self._system, [str(handle["job"]) for handle in missing.values()], self._interval)
        found = {}
        for index, handle in missing.items():
            run, job = runs[index], str(handle["job"])
            end = self._end(run, handle, seen.jobs.get(job), told)
            if end is not None:
                found[index] = batch_ends.end(run, handle, end, self._words(run, handle, end))
                continue
            found[index] = Status(None, "running" if _has_begun(run) else "pending", self._unsettled(job, seen, told))
        return found

    def _unsettled(self, job: str, seen: queue_listing.Listing, told: queue_listing.Listing) -> str:
        if job in seen.jobs:
            return f"job {job}: {seen.jobs[job].words}; accounting has yet to say by whom"
        gone = f"{self._system.display_name} no longer has job {job} in its queue"
        if told.error:
            return f"{gone}, and how it ended isn't known: {told.error}"
        if job in told.jobs and told.jobs[job].state != "ended":
            return f"{gone}, but its accounting calls it {told.jobs[job].code or told.jobs[job].state}"
        return f"{gone}, and accounting has yet to hear how it ended"

    def _end(
        self, run: RunDir, handle: Mapping[str, Any], queued: QueuedJob | None, told: queue_listing.Listing
    ) -> QueuedJob | None:
        """How a job ended, of which the queue says ``queued`` if anything; ``None`` if that may yet come to be known.

        Accounting may have been away when the job ended, and hear of it minutes later.
        """
        job = str(handle["job"])
        known = told.jobs.get(job)
        if known is not None and _another(handle, known):
            known = None
        if told.error:
            return queued
        waited = told.taken - told.since.get(job, told.taken)
        if queued is not None:
            if known is not None and known.cause == queued.cause:
                return known
            return queued if waited >= BY_WHOM or (known and known.cause == "vanished") else None
        if known is not None and known.state == "ended":
            return known
        if (known is not None or self._system.accounting_lags) and waited < SETTLES:
            return None
        if known is not None and not run.cancel.exists() and not _outlived(run, known):
            return None  # as accounting has it, it is there: that is no end
        return self._system.vanished()


def job_of(run: RunDir, jobs: Mapping[str, QueuedJob]) -> tuple[str, QueuedJob] | None:
    """The job of a run's newest attempt among ``jobs``, known by its comment; with its id."""
    ours = f"mlnb:{run.path.name}"
    named = [
        (_submitted(job), number, job)
        for number, job in jobs.items()
        if job.about.get("comment") == ours and not _earlier(run, number, job)
    ]
    return max(named, key=lambda one: one[:2])[1:] if named else None


def beats(run: RunDir) -> bool:
    """Whether the newest attempt's first node has written its heartbeat a moment ago, and hasn't ended since."""
    attempts = run.attempts()
    beat = read_json(attempts[-1].heartbeat(0)) if attempts else None
    if beat is None or beat.get("ended") or abs(time.time() - float(beat["t"])) >= FRESH:
        return False
    result = read_json(run.result)
    return result is None or int(result.get("attempt", 1)) < attempts[-1].number


def accounted(run: RunDir) -> bool:
    """Whether the newest attempt has left its result."""
    result = read_json(run.result)
    return result is not None and int(result.get("attempt", 1)) >= len(run.attempts())


def _has_started(run: RunDir, handle: Mapping[str, Any], seen: queue_listing.Listing) -> bool:
    """Whether the job has begun since the queue was looked at: its log is there, which its system opens first."""
    attempt = run.attempt(int(handle.get("attempt", 1)))
    if attempt.events(0).exists():
        return False  # it was queued again: the log is there from before
    try:
        return (attempt.path / LOG).stat().st_mtime >= seen.taken - 1.0
    except OSError:
        return False


def _has_begun(run: RunDir) -> bool:
    """Whether the newest attempt's node program has been there."""
    attempts = run.attempts()
    return bool(attempts) and attempts[-1].heartbeat(0).exists()


def _another(handle: Mapping[str, Any], job: QueuedJob) -> bool:
    """Whether this is an earlier job that had the same number."""
    submitted = _submitted(job)
    return bool(submitted) and submitted + _OTHER < float(handle.get("submitted", 0.0))


def _outlived(run: RunDir, job: QueuedJob) -> bool:
    """Whether a job that accounting calls running can't be any more: slurmdbd may have missed its end."""
    limit = Task.from_json(read_json(run.task) or {"script": ""}).resources.time
    return job.state == "running" and None not in (job.start, limit) and time.time() > job.start + limit + _OVER  # type: ignore[operator]


def _submitted(job: QueuedJob) -> float:
    return float(job.about.get("submitted") or 0.0)


def _earlier(run: RunDir, number: str, job: QueuedJob) -> bool:
    """Whether a job of this run is that of an attempt before the one that is being submitted."""
    if (read_json(run.ended) or {}).get("job") == number:
        return True
    attempts = run.attempts()
    begun = attempts[-1].path.stat().st_mtime if attempts else 0.0
    return run.result.exists() and _submitted(job) + 1.0 < begun  # systems count whole seconds
