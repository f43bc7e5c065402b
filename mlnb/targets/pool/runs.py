"""The runs that a pool was given: what each waits for, how they are started, and what becomes of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.node import pool_node
from mlnb.rundir import RunDir, read_json, read_json_fresh, read_lines, revalidate_directory

_DOUBT = 5.0
"""Seconds in which a run that ended without a result may turn out to have been taken along by the pool's job."""

_KEPT = 50
"""Runs that have ended that are told of: their own result says more, and is there before."""

_LOOK = 0.1
_LAST = 60.0
"""Seconds of the pool's time in which nothing is started again."""

Call = Callable[..., Awaitable[Any]]
"""Has a function of ``mlnb.node.pool_node`` called on the node: the function, its arguments; ``OSError`` if it
can't."""


@dataclass
class Guest:
    """One run. ``env`` holds what was asked for with ``--env``: it is in this process's memory only."""

    path: Path
    attempt: int
    env: dict[str, str] = field(repr=False)
    state: str = "waiting"
    reason: str = ""
    process: tuple[int, str] | None = None
    place: str = ""
    since: float = field(default_factory=time.monotonic)

    @property
    def claimed(self) -> tuple[int, str] | None:
        """The process that this attempt is, as it has written itself."""
        found = read_json_fresh(RunDir(self.path).attempt(self.attempt).lock(0)) or {}
        return (int(found["pid"]), str(found["identity"])) if "identity" in found else None

    def become(self, state: str, reason: str = "") -> None:
        """Change to ``state``."""
        self.state, self.reason, self.since = state, reason, time.monotonic()

    @property
    def result(self) -> dict[str, Any] | None:
        """What this attempt left."""
        found = read_json_fresh(RunDir(self.path).result)
        return found if found is not None and found.get("attempt", 1) >= self.attempt else None


class Guests:
    """All runs of a pool, in order."""

    def __init__(self) -> None:
        self._guests: dict[str, Guest] = {}
        self._starting = asyncio.Lock()

    def add(self, path: Path, attempt: int, env: dict[str, str]) -> None:
        """Take a run; one that was here before comes anew."""
        for old in [run for run, guest in self._guests.items() if guest.state == "over"][:-_KEPT]:
            del self._guests[old]
        self._guests.pop(path.name, None)
        self._guests[path.name] = Guest(path, attempt, env)

    @property
    def present(self) -> list[Guest]:
        """Those that have not ended."""
        return [guest for guest in self._guests.values() if guest.state != "over"]

    @property
    def running(self) -> bool:
        """Whether any was started and hasn't ended."""
        return any(guest.state == "sent" for guest in self._guests.values())

    def told(self) -> dict[str, dict[str, Any]]:
        """What is written of them."""
        return {
            run: {"state": guest.state, "reason": guest.reason, "attempt": guest.attempt}
            for run, guest in self._guests.items()
        }

    def dismiss(self, reason: str, *, sent: bool = True) -> None:
        """None of them comes to its end here any more: those that wait, and unless ``sent`` is off the others too."""
        for guest in self.present:
            if sent or guest.state != "sent":
                guest.become("over", reason)

    # on the node

    def processes(self) -> dict[str, tuple[int, str]]:
        """The node programs that are to be asked for."""
        return {
            run: guest.process
            for run, guest in self._guests.items()
            if guest.state == "sent" and guest.process is not None
        }

    def seen(self, asked: dict[str, tuple[int, str]], alive: dict[str, Any]) -> None:
        """Take what the node told of the runs that it was asked for."""
        for run in asked:
            guest = self._guests[run]
            if guest.state != "sent" or guest.process != asked[run]:
                continue  # it came anew meanwhile
            if run in alive:
                guest.reason = self._waits(alive[run])
            elif guest.result is not None:
                guest.become("over")
            else:
                guest.become("interrupted", _interruption(guest))

    def _waits(self, place: tuple[int, list[str]] | None) -> str:
        """What a run waits for on the node; empty if it doesn't."""
        if place is None:
            return ""
        count, holders = place
        others = f", behind {count} other{'s' * (count > 1)}" if count else ""
        paths = [self._guests[one].path if one in self._guests else None for one in holders[:3]]
        names = [str((read_json(RunDir(path).run) or {}).get("name", path.name)) for path in paths if path is not None]
        busy = f" (held by {', '.join(names)})" if names else ""
        return f"waits for cores or GPUs of the pool{others}{busy}"

    async def start(self, place: str, call: Call, ends: float | None) -> None:
        """Start all that wait. They are told when the pool's time is over, so that they end before that."""
        env = {} if ends is None else {"MLNB_DEADLINE": str(ends)}
        async with self._starting:
            for guest in self.present:
                if guest.state == "waiting":
                    await self._start(guest, place, call, env)

    async def _start(self, guest: Guest, place: str, call: Call, env: dict[str, str]) -> None:
        guest.place, guest.process = place, None
        guest.become("sent")
        try:
            request = {"run": str(guest.path), "attempt": guest.attempt, "env": {**env, **guest.env}}
            answer = await call(pool_node.start_run, request)
            guest.process = int(answer["pid"]), str(answer["identity"])
        except OSError:  # it may have been started all the same
            guest.become("interrupted", "the pool did not say whether it was started")

    def settle(self, place: str, ends: float | None) -> None:
        """Decide on those whose node program is gone without a result, now that the job is there as ``place``.

        What the pool's job took along goes on from its checkpoint, if it may be queued again and has one. What ended
        by itself has ended.
        """
        for guest in self.present:
            if guest.state == "sent" and guest.process is not None and guest.place != place:
                guest.become("interrupted", "the pool's job was queued again under it")
            if guest.state != "interrupted":
                continue
            if guest.result is not None:
                guest.become("over")
            elif guest.process is None or guest.claimed not in (None, guest.process):
                self._adopt(guest, place)
            elif guest.place != place or time.monotonic() - guest.since > _DOUBT:
                self._again(guest, ends)

    def _adopt(self, guest: Guest, place: str) -> None:
        """Whether it was started, and as which process, nobody said: what it wrote first does."""
        claimed = guest.claimed
        if claimed is not None:
            guest.process = claimed
            guest.become("sent" if guest.place == place else "interrupted", guest.reason)
        elif guest.place != place or time.monotonic() - guest.since > _DOUBT:
            guest.become("waiting")

    def _again(self, guest: Guest, ends: float | None) -> None:
        short = ends is not None and ends - time.time() < _LAST
        if not _resumes(guest):
            guest.become("over", guest.reason)
        elif not short:  # else it is the pool's end that ended it
            guest.attempt += 1
            guest.become("waiting", f"goes on from its newest checkpoint: {guest.reason}")

    def taken(self) -> None:
        """The pool's job was queued again, and has taken along what ran: that which can't go on has ended."""
        for guest in self.present:
            if guest.state == "sent":
                guest.become("interrupted", "the pool's job was queued again under it")
            if guest.state == "interrupted" and guest.result is None and not _resumes(guest):
                guest.become("over", guest.reason)

    async def cancel(self, run: str, worker: str | None, call: Call, grace: float) -> bool:
        """End a run: TERM, grace for a checkpoint, KILL; whether its processes are gone."""
        async with self._starting:
            guest = self._guests.get(run)
        if guest is None or guest.state == "over":
            return True
        if guest.state != "sent" or guest.process is None:
            guest.become("over", "was cancelled before it was started")
            return True
        if worker is None:
            return False
        try:
            for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _DOUBT)):
                await call(pool_node.signal_run, *guest.process, int(number))
                end = time.monotonic() + patience
                while time.monotonic() < end:
                    if not (await call(pool_node.pool_status, {run: guest.process}))["alive"]:
                        guest.become("over", "" if guest.result else "was cancelled")
                        return True
                    await asyncio.sleep(_LOOK)
        except OSError:
            return False
        return False


def _resumes(guest: Guest) -> bool:
    """Whether another attempt may go on, and has something to go on from; if only that is missing it is said."""
    run = RunDir(guest.path)
    if read_json_fresh(run.cancel) is not None or not (read_json(run.run) or {}).get("requeue"):
        return False
    if any(run.checkpoints.glob("*")):
        return True
    guest.reason += "; it had made no checkpoint (mlnb.epochs makes them)"
    return False


def _interruption(guest: Guest) -> str:
    """Why its node program is gone, as far as it has said."""
    attempt = RunDir(guest.path).attempt(guest.attempt)
    revalidate_directory(attempt.path)
    events = read_lines(attempt.events(0))
    said = [str(one.get("reason")) for one in events if one.get("event") in ("interrupted", "ending")]
    return said[-1] if said else "its node program was killed"
