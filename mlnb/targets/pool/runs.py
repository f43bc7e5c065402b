"""The runs that were submitted to a pool: starts them on the node, and follows each to its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.files import last_lines
from mlnb.node import pool_node
from mlnb.rundir import RunDir, read_json_fresh, revalidate_directory
from mlnb.runinfo import RunInfo

_DOUBT = 5.0
"""Seconds to wait for an explanation when a node program is gone without a result: its result may become visible late,
or the pool's job may turn out to have been queued again."""

_MAX_ENDED = 50
"""How many ended runs the state still lists."""

_LAST_EVENTS = 1_000_000
"""Bytes at the end of the events that are read: more than is written in a grace period."""

_POLL = 0.1
_NO_RESTART = 60.0
"""Seconds before the pool's end in which no interrupted run is started again."""

Call = Callable[..., Awaitable[Any]]
"""Calls a function of ``mlnb.node.pool_node`` on the node: ``await call(function, *arguments)``. Raises ``OSError`` if
it can't."""

Process = tuple[int, str]
"""A pid, and an identity that distinguishes the process from earlier ones with that pid (``process_identity``)."""


@dataclass
class PoolRun:
    """One run of a pool.

    Attributes
    ----------
    path, attempt
        its run directory, and the attempt to start, counted from 1.
    env
        the variables of ``--env`` with their values, which are in this process's memory only.
    state, reason
        ``waiting`` (to be started), ``sent`` (started), ``interrupted`` (its node program is gone without a result, or
        may never have been started) or ``over``; and why.
    process
        its node program; ``None`` while that isn't known.
    job_start
        the start of the pool's job (:func:`mlnb.node.pool_node.pool_status`) in which it was started.
    since
        when ``state`` changed, by ``time.monotonic``.
    """

    path: Path
    attempt: int
    env: dict[str, str] = field(repr=False)
    state: str = "waiting"
    reason: str = ""
    process: Process | None = None
    job_start: str = ""
    since: float = field(default_factory=time.monotonic)

    @property
    def locked_by(self) -> Process | None:
        """The process that has written itself into the attempt's lock; ``None`` if none has."""
        lock = read_json_fresh(RunDir(self.path).attempt(self.attempt).lock(0)) or {}
        return (int(lock["pid"]), str(lock["identity"])) if "identity" in lock else None

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of this attempt or a later one; ``None`` if there is none yet."""
        result = read_json_fresh(RunDir(self.path).result)
        return result if result is not None and result.get("attempt", 1) >= self.attempt else None

    def set_state(self, state: str, reason: str = "") -> None:
        """Change to ``state`` now."""
        self.state, self.reason, self.since = state, reason, time.monotonic()


class PoolRuns:
    """All runs of a pool, in order of submission."""

    def __init__(self) -> None:
        self._runs: dict[str, PoolRun] = {}
        self._starting = asyncio.Lock()

    def add(self, path: Path, attempt: int, env: dict[str, str]) -> None:
        """Accept a run. A run that the pool had before is queued again, as this attempt."""
        for old in [run_id for run_id, run in self._runs.items() if run.state == "over"][:-_MAX_ENDED]:
            del self._runs[old]
        self._runs.pop(path.name, None)
        self._runs[path.name] = PoolRun(path, attempt, env)

    @property
    def active(self) -> list[PoolRun]:
        """Those that have not ended."""
        return [run for run in self._runs.values() if run.state != "over"]

    @property
    def any_started(self) -> bool:
        """Whether one was started and has not ended."""
        return any(run.state == "sent" for run in self._runs.values())

    def summary(self) -> dict[str, dict[str, Any]]:
        """What the pool's state lists: run id → ``state``, ``reason``, ``attempt``."""
        return {
            run_id: {"state": run.state, "reason": run.reason, "attempt": run.attempt}
            for run_id, run in self._runs.items()
        }

    def end_all(self, reason: str, *, started: bool = True) -> None:
        """Mark all runs as ended; those that are started only if ``started``."""
        for run in self.active:
            if started or run.state != "sent":
                run.set_state("over", reason)

    # on the node

    def processes(self) -> dict[str, Process]:
        """The processes to poll on the node: run id → node program."""
        return {
            run_id: run.process for run_id, run in self._runs.items() if run.state == "sent" and run.process is not None
        }

    def update(self, polled: dict[str, Process], alive: dict[str, Any]) -> None:
        """Process the node's answer about the runs in ``polled``; ``alive`` is that of ``pool_node.pool_status``."""
        for run_id, process in polled.items():
            run = self._runs[run_id]
            if run.state != "sent" or run.process != process:
                continue  # it was queued again while the node answered
            if run_id in alive:
                run.reason = self._waiting_reason(alive[run_id])
            elif run.result is not None:
                run.set_state("over")
            else:
                run.set_state("interrupted", _interruption(run))

    def _waiting_reason(self, position: tuple[int, list[str]] | None) -> str:
        """What a started run waits for in the node's queue of cores and GPUs; empty if it doesn't wait."""
        if position is None:
            return ""
        ahead, holders = position
        others = f": {ahead} run{'s' * (ahead > 1)} ahead" if ahead else ""
        paths = [self._runs[run_id].path for run_id in holders[:3] if run_id in self._runs]
        names = [RunInfo.read(RunDir(path)).name for path in paths]
        using = f"; {' and '.join(names)} {'is' if len(names) == 1 else 'are'} using them" if names else ""
        return f"Waiting for cores or GPUs of the pool{others}{using}"

    async def start_waiting(self, job_start: str, call: Call, ends_at: float | None) -> None:
        """Start all runs that wait. Their deadline is that of the pool's job, so that they end before it does."""
        env = {} if ends_at is None else {"MLNB_DEADLINE": str(ends_at)}
        async with self._starting:
            for run in self.active:
                if run.state == "waiting":
                    await self._start(run, job_start, call, env)

    async def _start(self, run: PoolRun, job_start: str, call: Call, env: dict[str, str]) -> None:
        run.job_start, run.process = job_start, None
        run.set_state("sent")
        try:
            request = {"run": str(run.path), "attempt": run.attempt, "env": {**env, **run.env}}
            answer = await call(pool_node.start_run, request)
            run.process = int(answer["pid"]), str(answer["identity"])
        except OSError:  # it may have been started nevertheless
            run.set_state("interrupted", "the pool did not say whether it was started")

    def resolve_interrupted(self, job_start: str, ends_at: float | None) -> None:
        """Decide what becomes of interrupted runs: ended, still running, or to be started again.

        A run that was lost with an earlier start of the pool's job continues from its checkpoint, if it has one and may
        be queued again. A run that ended by itself has ended.

        Parameters
        ----------
        job_start
            the present start of the pool's job.
        ends_at
            when that job reaches its time limit, in seconds since the epoch; ``None`` if that isn't known.
        """
        for run in self.active:
            if run.state == "sent" and run.process is not None and run.job_start != job_start:
                run.set_state("interrupted", "the pool's job was queued again under it")
            if run.state != "interrupted":
                continue
            if run.result is not None:
                run.set_state("over")
            elif run.process is None or run.locked_by not in (None, run.process):
                self._find_process(run, job_start)
            elif run.job_start != job_start or time.monotonic() - run.since > _DOUBT:
                self._requeue(run, ends_at)

    def _find_process(self, run: PoolRun, job_start: str) -> None:
        """Find an unreported node program through the attempt's lock; without one, start the run again."""
        process = run.locked_by
        if process is not None:
            run.process = process
            run.set_state("sent" if run.job_start == job_start else "interrupted", run.reason)
        elif run.job_start != job_start or time.monotonic() - run.since > _DOUBT:
            run.set_state("waiting")

    def _requeue(self, run: PoolRun, ends_at: float | None) -> None:
        """Queue a run again as its next attempt, if it can resume; near the pool's end it stays interrupted."""
        near_end = ends_at is not None and ends_at - time.time() < _NO_RESTART
        if not _can_resume(run):
            run.set_state("over", run.reason)
        elif not near_end:  # otherwise it is the pool's end that interrupted it
            run.attempt += 1
            run.set_state("waiting", f"continues from its newest checkpoint: {run.reason}")

    def job_requeued(self) -> None:
        """Mark runs that can't resume as ended, after the pool's job was queued again and its processes are gone."""
        for run in self.active:
            if run.state == "sent":
                run.set_state("interrupted", "the pool's job was queued again under it")
            if run.state == "interrupted" and run.result is None and not _can_resume(run):
                run.set_state("over", run.reason)

    async def cancel(self, run_id: str, worker: str | None, call: Call, grace: float) -> bool:
        """End a run: SIGTERM, ``grace`` seconds for a checkpoint, SIGKILL; returns whether its processes are gone."""
        async with self._starting:
            run = self._runs.get(run_id)
        if run is None or run.state == "over":
            return True
        if run.state != "sent" or run.process is None:
            run.set_state("over", "was cancelled before it was started")
            return True
        if worker is None:
            return False
        try:
            for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _DOUBT)):
                await call(pool_node.signal_run, *run.process, int(number))
                end = time.monotonic() + patience
                while time.monotonic() < end:
                    if not (await call(pool_node.pool_status, {run_id: run.process}))["alive"]:
                        run.set_state("over", "" if run.result else "was cancelled")
                        return True
                    await asyncio.sleep(_POLL)
        except OSError:
            return False
        return False


def _can_resume(run: PoolRun) -> bool:
    """Whether a run may have another attempt and has a checkpoint. If only that is missing, ``reason`` says so."""
    directory = RunDir(run.path)
    if read_json_fresh(directory.cancel) is not None or not RunInfo.read(directory).node.requeue:
        return False
    if any(directory.checkpoints.glob("*")):
        return True
    run.reason += "; it had made no checkpoint (mlnb.epochs makes them)"
    return False


def _interruption(run: PoolRun) -> str:
    """Why the node program is gone, if it has written that."""
    attempt = RunDir(run.path).attempt(run.attempt)
    revalidate_directory(attempt.path)
    events = last_lines(attempt.events(0), _LAST_EVENTS)
    reasons = [str(event.get("reason")) for event in events if event.get("event") in ("interrupted", "ending")]
    return reasons[-1] if reasons else "its node program was killed"
