"""The queue of a batch system, listed once for all runs and all processes of a user on this machine.

A process that finds the last listing too old makes a new one, under a lock; meanwhile the others use the last one. A
system that does not answer delays callers only briefly: they get the previous listing and how long the system has been
silent, and the command that lists the queue continues in the background.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlnb.errors import MlnbError
from mlnb.rundir import read_json, select_fields, write_json
from mlnb.targets.batch.commands import TIMEOUT
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.system import System
from mlnb.targets.locks import OPEN_FLAGS, try_lock
from mlnb.units import format_time

INTERVAL = 5.0
"""Seconds between two listings, unless the target's ``poll`` says otherwise."""

PATIENCE = 2.0
"""Seconds after which a caller gets the previous listing, if listings don't usually take longer."""

_STEP = 0.02
_LAST_WAIT = 10.0
"""Seconds for which a process that ends waits for its query: a slow system would be queried by each command again."""

_LONGEST_INTERVAL = 30.0
"""Seconds between two listings at most, while the system does not answer."""

ACCOUNTING_RETRY = 60.0
"""Seconds after which accounting that did not answer is queried again: each failing query may take long."""

_CONTINUOUS = 300.0
"""The longest time in seconds between two answers of accounting that does not count as an interruption."""

_FORMAT = 2
"""Version of the file's format. It is part of the file's name: versions of mlnb don't read each other's files."""


@dataclass(frozen=True)
class Listing:
    """The jobs of a queue at one time; times are in seconds since the epoch.

    Attributes
    ----------
    time
        when the system was last queried.
    jobs
        the user's jobs by id, with those that ended recently.
    error
        why there was no answer; then ``jobs`` are those of the last answer.
    answered
        when the system last answered.
    queried
        ids of the jobs that accounting was queried for.
    answering_since
        by job: the time from which accounting has answered every question about it.
    duration
        seconds that the last answer took.
    failures
        how many queries have failed since then.
    """

    time: float = 0.0
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    error: str = ""
    answered: float = 0.0
    queried: tuple[str, ...] = ()
    answering_since: dict[str, float] = field(default_factory=dict)
    duration: float = 0.0
    failures: int = 0


def list_queue(system: System, interval: float = INTERVAL, after: float = 0.0) -> Listing:
    """The user's jobs on ``system``, listed at most once in ``interval`` seconds.

    A caller waits for the first listing, and otherwise as long as listings usually take. After that it gets the
    previous listing, with an error.

    Parameters
    ----------
    interval
        0 for the queue as it is now: the caller then waits until the system answers or its command times out.
    after
        seconds since the epoch: wait for a listing of another process rather than return one from before this time.
    """
    path = _path(system)
    lock = path.with_suffix(".lock")
    last = _read(path)
    wait = not interval or last.time == 0.0 or last.time < after
    patience = max(PATIENCE, 2 * last.duration) if interval and last.answered else TIMEOUT
    end = time.monotonic() + patience
    while not _fresh(last, interval):
        held = try_lock(lock)
        if held is None and (not wait or time.monotonic() > end):
            return _silent(system, last, time.time() - lock.stat().st_mtime)  # another process lists at this moment
        if held is None:
            time.sleep(_STEP)
            last = _read(path)
            continue
        query = _Query(path, held, interval, system.jobs)
        query.start()
        query.join(max(0.0, end - time.monotonic()))
        if query.is_alive():
            query.finish_at_exit()
        if query.problem is not None:
            raise query.problem
        return query.listing or _silent(system, last, patience)
    return last


class _Query(threading.Thread):
    """Lists the queue in a thread, which continues for the next caller if this one can't wait any longer.

    Parameters
    ----------
    lock
        an open file, which is held until the listing is written.
    """

    def __init__(self, path: Path, lock: int, interval: float, fetch: Callable[[], dict[str, QueuedJob]]) -> None:
        super().__init__(name="mlnb-queue", daemon=True)
        self._path, self._file, self._interval, self._fetch = path, lock, interval, fetch
        self.listing: Listing | None = None
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            last = _read(self._path)  # another process may have listed it a moment ago
            self.listing = last if _fresh(last, self._interval) else _update(self._path, last, self._fetch)
        except BaseException as problem:  # noqa: BLE001 - for the caller
            self.problem = problem
        finally:
            os.close(self._file)
            atexit.unregister(self._wait)

    def finish_at_exit(self) -> None:
        """Have the process, if it ends meanwhile, wait for the answer, but not for long."""
        atexit.register(self._wait)

    def _wait(self) -> None:
        self.join(_LAST_WAIT)


def _silent(system: System, last: Listing, seconds: float) -> Listing:
    """The last listing, with how long the system has not answered, if that is long."""
    if last.error or seconds < PATIENCE:
        return last
    return replace(last, error=f"{system.display_name} has not answered for {format_time(seconds)}")


def list_ended(system: System, jobs: Sequence[str], interval: float = INTERVAL) -> Listing:
    """What accounting reports of jobs that the queue no longer lists; queried at most once in ``interval`` seconds."""
    path = _path(system, "ended")
    with _locked(path.with_suffix(".lock")):
        last = _read(path)
        if last.error and _fresh(last, max(interval, ACCOUNTING_RETRY)):
            return last
        fresh = _fresh(last, interval)
        if fresh and last.queried and set(jobs) <= set(last.queried):
            return last
        queried = tuple(sorted({*last.queried, *jobs} if fresh else jobs))
        return _update(path, last, lambda: system.ended(queried), queried)


def _update(
    path: Path, last: Listing, fetch: Callable[[], dict[str, QueuedJob]], queried: tuple[str, ...] = ()
) -> Listing:
    """Query the system and write the answer for all processes. A failure is written, too: they need not repeat it."""
    began = time.time()  # the answer may lack what changes after this moment
    try:
        jobs = fetch()
        since = _answering_since(last, began, queried)
        listing = Listing(began, jobs, "", began, queried, since, time.time() - began)
    except MlnbError as error:
        failures = last.failures + 1
        listing = Listing(
            time.time(), last.jobs, str(error), last.answered, queried, duration=last.duration, failures=failures
        )
    _write(path, listing)
    return listing


def _write(path: Path, listing: Listing) -> None:
    jobs = {name: {**asdict(job), "details": dict(job.details)} for name, job in listing.jobs.items()}
    write_json(path, {**vars(listing), "jobs": jobs})


def _answering_since(last: Listing, now: float, queried: tuple[str, ...]) -> dict[str, float]:
    """By job: the time from which accounting has answered without an interruption in which it could miss the end."""
    before = last.answering_since if now - last.time < _CONTINUOUS else {}
    recent = {job: since for job, since in before.items() if now - since < 2 * _CONTINUOUS}
    return {**dict.fromkeys(queried, now), **recent}


def expire(system: System) -> None:
    """Have the next :func:`list_queue` query the system, after a job was submitted or cancelled."""
    path = _path(system)
    last = _read(path)
    if last.answered:
        _write(path, replace(last, time=0.0, failures=0))
    else:
        path.unlink(missing_ok=True)


def _fresh(last: Listing, interval: float) -> bool:
    if last.failures > 1:
        interval = min(max(interval, _LONGEST_INTERVAL), interval * 2.0 ** min(last.failures, 10))
    return 0.0 <= time.time() - last.time < interval


def _path(system: System, prefix: str = "queue") -> Path:
    """One file for each system as this environment finds it (``SLURM_CONF`` and the like)."""
    environment = {name: value for name, value in sorted(system.environment().items()) if name not in _IRRELEVANT}
    key = json.dumps([_FORMAT, system.kind, environment])
    return system.workspace.runtime_dir() / f"{prefix}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


_IRRELEVANT = frozenset({"PATH", "LD_LIBRARY_PATH", "TZ"})
"""Variables that do not tell one cluster from another."""


def _read(path: Path) -> Listing:
    data = read_json(path)
    if data is None:
        return Listing()
    jobs = {
        name: QueuedJob(**{**select_fields(QueuedJob, job), "nodes": tuple(job["nodes"])})
        for name, job in data["jobs"].items()
    }
    return Listing(**{**select_fields(Listing, data), "jobs": jobs, "queried": tuple(data["queried"])})


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file at ``path``; waits for it."""
    file = os.open(path, OPEN_FLAGS, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
