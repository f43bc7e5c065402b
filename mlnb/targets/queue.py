"""One look at the queue for all runs and all observers of a user on this machine, however many there are.

Whoever finds the last look too old takes it anew, under a lock; the others use what is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlnb.errors import MlnbError
from mlnb.rundir import read_json, write_json
from mlnb.targets.config import runtime_dir
from mlnb.targets.systems.base import Queued, System

INTERVAL = 5.0
"""Seconds between two looks, unless the target's ``poll`` says otherwise."""


AGAIN = 60.0
"""Seconds after which accounting that did not answer is asked again: it may take long not to."""

_STEADY = 300.0
"""Seconds between two answers of accounting after which it may have been away meanwhile."""


@dataclass(frozen=True)
class Listing:
    """What the queue held.

    Attributes
    ----------
    taken
        when, in seconds since the epoch.
    jobs
        the user's jobs by id, those that ended lately among them.
    error
        why it could not be read, in words; then ``jobs`` is what was known before.
    heard
        when it was last read.
    asked
        the jobs that accounting was asked for.
    since
        since when it has answered without a break whoever asked for a job, by job.
    """

    taken: float = 0.0
    jobs: dict[str, Queued] = field(default_factory=dict)
    error: str = ""
    heard: float = 0.0
    asked: tuple[str, ...] = ()
    since: dict[str, float] = field(default_factory=dict)


def listing(system: System, interval: float = INTERVAL, after: float = 0.0) -> Listing:
    """The user's jobs on ``system``, read at most once in ``interval`` seconds.

    Parameters
    ----------
    after
        seconds since the epoch; a look from before does not do (the interval holds all the same).
    """
    path = _path(system)
    known = _read(path)
    if _fresh(known, interval):
        return known
    wait = known.taken == 0.0 or known.taken < after
    with _locked(path.with_suffix(".lock"), wait=wait) as mine:
        if not mine:
            return known  # somebody asks at this moment
        known = _read(path)
        if _fresh(known, interval):
            return known
        return _keep(path, known, system.jobs)


def accounts(system: System, jobs: Sequence[str], interval: float = INTERVAL) -> Listing:
    """What accounting knows of jobs that the queue has forgotten; each is asked for once in ``interval`` seconds."""
    path = _path(system, "ended")
    with _locked(path.with_suffix(".lock"), wait=True):
        known = _read(path)
        if known.error and _fresh(known, max(interval, AGAIN)):
            return known
        fresh = _fresh(known, interval)
        if fresh and known.asked and set(jobs) <= set(known.asked):
            return known
        all_ = tuple(sorted({*known.asked, *jobs} if fresh else jobs))
        return _keep(path, known, lambda: system.ended(all_), all_)


def _keep(path: Path, known: Listing, ask: Callable[[], dict[str, Queued]], asked: tuple[str, ...] = ()) -> Listing:
    """Ask, and write what was answered down for all others; that it was not, too, lest each of them ask in turn."""
    began = time.time()  # what changes while the answer is under way may not be in it
    try:
        jobs = ask()
        found = Listing(began, jobs, "", began, asked, _since(known, began, asked))
    except MlnbError as error:
        found = Listing(time.time(), known.jobs, str(error), known.heard, asked)
    plain = {name: {**asdict(job), "about": dict(job.about)} for name, job in found.jobs.items()}
    write_json(path, {**vars(found), "jobs": plain})
    return found


def _since(known: Listing, now: float, asked: tuple[str, ...]) -> dict[str, float]:
    """Since when accounting has answered for each job, without a break in which it may have missed its end."""
    before = known.since if now - known.taken < _STEADY else {}
    return {**dict.fromkeys(asked, now), **{job: since for job, since in before.items() if now - since < 2 * _STEADY}}


def forget(system: System) -> None:
    """Have the next :func:`listing` look anew: something was changed."""
    _path(system).unlink(missing_ok=True)


def _fresh(known: Listing, interval: float) -> bool:
    return 0.0 <= time.time() - known.taken < interval


def _path(system: System, what: str = "queue") -> Path:
    """One file for each system as this environment finds it (``SLURM_CONF`` and the like)."""
    environment = system.environment()
    where = json.dumps([system.kind, {name: environment[name] for name in sorted(environment) if name not in _VARY}])
    return runtime_dir() / f"{what}-{hashlib.sha256(where.encode()).hexdigest()[:12]}.json"


_VARY = frozenset({"PATH", "LD_LIBRARY_PATH", "TZ"})


def _read(path: Path) -> Listing:
    data = read_json(path)
    if data is None:
        return Listing()
    jobs = {name: Queued(**{**job, "nodes": tuple(job["nodes"])}) for name, job in data["jobs"].items()}
    taken, error, heard = float(data["taken"]), str(data["error"]), float(data["heard"])
    return Listing(taken, jobs, error, heard, tuple(data["asked"]), data.get("since", {}))


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock while inside; whether it was to be had (always, if ``wait``)."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(file)
