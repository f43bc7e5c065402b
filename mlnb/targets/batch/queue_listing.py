"""One look at the queue for all runs and all observers of a user on this machine, however many there are.

Whoever finds the last look too old takes it anew, under a lock; the others use what is there. A system that does not
answer holds up nobody for long: what was known stays known, with how long it has been silent, and the look goes on
behind.
"""

from __future__ import annotations

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
from mlnb.targets.batch.commands import PATIENCE
from mlnb.targets.batch.system import QueuedJob, System
from mlnb.targets.config.paths import runtime_dir
from mlnb.targets.locks import FLAGS, taken
from mlnb.units import format_time

INTERVAL = 5.0
"""Seconds between two looks, unless the target's ``poll`` says otherwise."""

LOOK = 2.0
"""Seconds that one who only wants to know is held up by a look, where looks don't take long as a rule."""

_STEP = 0.02
_RARELY = 30.0
"""Seconds between two looks at most, while the system does not answer."""

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
    took
        seconds that the last answer took.
    failed
        how many looks since then had none.
    """

    taken: float = 0.0
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    error: str = ""
    heard: float = 0.0
    asked: tuple[str, ...] = ()
    since: dict[str, float] = field(default_factory=dict)
    took: float = 0.0
    failed: int = 0


def listing(system: System, interval: float = INTERVAL, after: float = 0.0) -> Listing:
    """The user's jobs on ``system``, read at most once in ``interval`` seconds.

    Who only wants to know waits as long as looks take as a rule, or the first one takes; then there is what was known
    before, with an error.

    Parameters
    ----------
    interval
        0 for a look at the queue as it is now, by one who waits for the answer.
    after
        seconds since the epoch; a look from before does not do (the interval holds all the same).
    """
    path = _path(system)
    lock = path.with_suffix(".lock")
    known = _read(path)
    wait = not interval or known.taken == 0.0 or known.taken < after
    patience = max(LOOK, 2 * known.took) if interval and known.heard else PATIENCE
    end = time.monotonic() + patience
    while not _fresh(known, interval):
        mine = taken(lock)
        if mine is None and (not wait or time.monotonic() > end):
            return _silent(system, known, time.time() - lock.stat().st_mtime)  # somebody asks at this moment
        if mine is None:
            time.sleep(_STEP)
            known = _read(path)
            continue
        look = _Look(path, mine, interval, system.jobs)
        look.start()
        look.join(max(0.0, end - time.monotonic()))
        if look.problem is not None:
            raise look.problem
        return look.found or _silent(system, known, patience)
    return known


class _Look(threading.Thread):
    """One look; it goes on when whoever wanted it can't wait any longer, for those who ask next.

    Parameters
    ----------
    lock
        an open file, which is held until the look is over.
    """

    def __init__(self, path: Path, lock: int, interval: float, ask: Callable[[], dict[str, QueuedJob]]) -> None:
        super().__init__(name="mlnb-queue", daemon=True)
        self._path, self._file, self._interval, self._ask = path, lock, interval, ask
        self.found: Listing | None = None
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            known = _read(self._path)  # another may have looked a moment ago
            self.found = known if _fresh(known, self._interval) else _keep(self._path, known, self._ask)
        except BaseException as problem:  # noqa: BLE001 - for whoever waits
            self.problem = problem
        finally:
            os.close(self._file)


def _silent(system: System, known: Listing, seconds: float) -> Listing:
    """What was known, and for how long the system has not answered who asks, if it is long."""
    if known.error or seconds < LOOK:
        return known
    return replace(known, error=f"{system.display_name} has not answered for {format_time(seconds)}")


def accounts(system: System, jobs: Sequence[str], interval: float = INTERVAL) -> Listing:
    """What accounting knows of jobs that the queue has forgotten; each is asked for once in ``interval`` seconds."""
    path = _path(system, "ended")
    with _locked(path.with_suffix(".lock")):
        known = _read(path)
        if known.error and _fresh(known, max(interval, AGAIN)):
            return known
        fresh = _fresh(known, interval)
        if fresh and known.asked and set(jobs) <= set(known.asked):
            return known
        all_ = tuple(sorted({*known.asked, *jobs} if fresh else jobs))
        return _keep(path, known, lambda: system.ended(all_), all_)


def _keep(path: Path, known: Listing, ask: Callable[[], dict[str, QueuedJob]], asked: tuple[str, ...] = ()) -> Listing:
    """Ask, and write what was answered down for all others; that it was not, too, lest each of them ask in turn."""
    began = time.time()  # what changes while the answer is under way may not be in it
    try:
        jobs = ask()
        found = Listing(began, jobs, "", began, asked, _since(known, began, asked), time.time() - began)
    except MlnbError as error:
        found = Listing(
            time.time(), known.jobs, str(error), known.heard, asked, took=known.took, failed=known.failed + 1
        )
    _write(path, found)
    return found


def _write(path: Path, listing: Listing) -> None:
    plain = {name: {**asdict(job), "about": dict(job.about)} for name, job in listing.jobs.items()}
    write_json(path, {**vars(listing), "jobs": plain})


def _since(known: Listing, now: float, asked: tuple[str, ...]) -> dict[str, float]:
    """Since when accounting has answered for each job, without a break in which it may have missed its end."""
    before = known.since if now - known.taken < _STEADY else {}
    return {**dict.fromkeys(asked, now), **{job: since for job, since in before.items() if now - since < 2 * _STEADY}}


def forget(system: System) -> None:
    """Have the next :func:`listing` look anew: something was changed."""
    path = _path(system)
    known = _read(path)
    if known.heard:
        _write(path, replace(known, taken=0.0, failed=0))
    else:
        path.unlink(missing_ok=True)


def _fresh(known: Listing, interval: float) -> bool:
    wait = min(max(interval, _RARELY), interval * 2.0 ** min(known.failed, 10)) if known.failed > 1 else interval
    return 0.0 <= time.time() - known.taken < wait


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
    jobs = {
        name: QueuedJob(**{**select_fields(QueuedJob, job), "nodes": tuple(job["nodes"])})
        for name, job in data["jobs"].items()
    }
    taken, error, heard = float(data["taken"]), str(data["error"]), float(data["heard"])
    more = data.get("since", {}), data.get("took", 0.0), data.get("failed", 0)
    return Listing(taken, jobs, error, heard, tuple(data["asked"]), *more)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock while inside."""
    file = os.open(path, FLAGS, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
