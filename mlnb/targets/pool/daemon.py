"""The process that holds a pool: detached, it outlives the session that started it, and the next one finds it.

``python -m mlnb.targets.pool.daemon FOLDER``. Sessions talk to it over a Unix socket in the user's private runtime
folder, so that the values of ``--env`` are written nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.node import pool_node
from mlnb.node.fork_server import is_same_user
from mlnb.node.process.identity import process_identity
from mlnb.rundir import write_json
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.config.paths import socket_path
from mlnb.targets.pool import orphan_cleanup
from mlnb.targets.pool.folder import BEAT, Known, PoolDir, State
from mlnb.units import format_time

if TYPE_CHECKING:
    from mlnb.targets.pool.allocation import Allocation, Seen
    from mlnb.targets.pool.runs import Guests

_TICK = 1.0
_LOST = 120.0
"""Seconds for which a running job may be without its worker."""

_FORGOTTEN = 20.0
"""Seconds for which the queue may not list the job: a controller that has just been started may not know it yet."""

_BY_ITSELF = 5.0
"""Seconds that the job has to end when its worker was let go, before it is cancelled."""

_GOING = 600.0
"""Seconds for which a system that does not answer is asked to end the job."""


class Over(Exception):
    """The pool is over: why, whether its job is gone already, whether it is left to the runs on it."""

    def __init__(self, reason: str, *, gone: bool = False, left: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.gone, self.left = reason, gone, left


class Holder:
    """The pool's one writer.

    Parameters
    ----------
    pool
        what was asked for.
    """

    def __init__(self, pool: Known, allocation: Allocation, guests: Guests) -> None:
        self._pool, self._allocation, self._guests = pool, allocation, guests
        self._socket = socket_path(f"pool-{hashlib.sha256(os.fsencode(pool.folder.path)).hexdigest()[:12]}.sock")
        pid = os.getpid()
        holder = {"pid": pid, "identity": process_identity(pid), "host": socket.gethostname()}
        self._state = State(
            reason="is being submitted",
            holder={**holder, "socket": str(self._socket)},
            since=float(pool.asked["since"]),
        )
        self._idle = float(pool.asked["idle"])
        self._news = asyncio.Event()
        self._told = self._closing = False
        self._missed: float | None = None
        self._last, self._written = self._state, 0.0

    async def main(self) -> None:
        """Hold the pool until it is over."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._be_told)
        self._write()
        self._socket.unlink(missing_ok=True)
        try:
            await self._allocation.open()
            job = await asyncio.to_thread(self._allocation.submit)
        except SubmissionUnknown as error:
            self._become("closing", str(error))
            sys.exit(1)  # its heir looks for the job
        except MlnbError as error:
            self._become("ended", str(error))
            return
        self._say(jobs=(job,), scheduler=self._allocation.address, reason=f"was submitted as job {job}")
        async with await asyncio.start_unix_server(self._serve, self._socket):
            try:
                while True:
                    await self._tick()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._news.wait(), _TICK)
                    self._news.clear()
            except Over as over:
                await self._end(over)
            finally:
                self._socket.unlink(missing_ok=True)

    def _be_told(self) -> None:
        self._told = True
        self._news.set()

    # what is written

    def _become(self, state: str, reason: str) -> None:
        self._say(state=state, reason=reason)

    def _say(self, **values: Any) -> None:
        self._state = replace(self._state, **values)
        self._write()

    def _write(self) -> None:
        """Write the state if it has changed, or a little while ago."""
        state = replace(self._state, runs=self._guests.told())
        if state != self._last or time.time() - self._written > BEAT:
            self._last, self._written = state, time.time()
            write_json(self._pool.folder.state, asdict(replace(state, written=self._written)))

    # what happens

    async def _tick(self) -> None:
        worker = self._allocation.worker
        if worker is not None:
            with contextlib.suppress(OSError):  # it left this moment: the next look says more
                await self._attend(worker)
        else:
            self._look(await asyncio.to_thread(self._allocation.look))
        self._check()
        self._write()

    async def _attend(self, worker: str) -> None:
        """The job runs: start what waits, see how the others are."""
        self._missed = None
        asked = self._guests.processes()
        seen = await self._allocation.call(worker, pool_node.pool_status, asked)
        self._guests.seen(asked, seen["alive"])
        ends = seen["ends"] or self._state.ends or await asyncio.to_thread(self._allocation.ends)
        state, reason = "running", ""
        if not seen["ready"]:
            state, reason = "starting", f"torch is being imported on {seen['host']}"
        elif not self._closing:
            self._guests.settle(seen["place"], ends)
            await self._guests.start(seen["place"], self._call, ends)
        idle = None
        if state == "running" and not self._guests.present:
            idle = self._state.idle or time.time()
        if not self._closing:
            self._state = replace(self._state, state=state, reason=reason)
        self._state = replace(self._state, host=seen["host"], ends=ends, idle=idle)

    async def _call(self, function: Any, *arguments: Any) -> Any:
        worker = self._allocation.worker
        if worker is None:
            raise ConnectionAbortedError("the pool has no worker")
        return await self._allocation.call(worker, function, *arguments)

    def _look(self, seen: Seen) -> None:
        """No worker is there: the queue says why."""
        job, words = seen.job, self._allocation.system.display_name
        if seen.error:
            self._state = replace(self._state, reason=seen.error)
        elif job is None:
            self._missed = self._missed or time.monotonic()
            if time.monotonic() - self._missed > _FORGOTTEN:
                raise Over(f"{words} no longer knows its job {self._allocation.job}", gone=True)
            self._state = replace(self._state, reason=f"{words} does not list its job {self._allocation.job}")
        elif job.state == "ended":
            raise Over(self._ended(job.cause, job.words), gone=True)
        elif job.state == "pending":
            self._missed = None
            self._guests.taken()
            reason = job.words or f"waits in the queue ({job.code})"
            if job.start is not None and job.start > time.time():
                reason += f"; {words} expects it to start in {format_time(job.start - time.time())}"
            state = "closing" if self._closing else "pending"
            self._state = replace(self._state, state=state, reason=reason, idle=None, ends=None)
        else:
            self._missed = self._missed or time.monotonic()
            if time.monotonic() - self._missed > _LOST:
                raise Over("its job runs, but its worker does not answer", left=self._guests.running)
            where = f" on {', '.join(job.nodes)}" if job.nodes else ""
            state = "closing" if self._closing else "starting"
            self._state = replace(self._state, state=state, reason=f"its worker is being started{where}", idle=None)

    def _ended(self, cause: str, words: str) -> str:
        if cause == "completed":
            words = "ended by itself"
        return self._timed_out if cause == "time" else f"its job {self._allocation.job} {words}"

    @property
    def _timed_out(self) -> str:
        time_ = self._pool.resources.time
        return f"its time was over{f' ({format_time(time_)})' if time_ else ''}"

    def _check(self) -> None:
        """Whether it is to go on."""
        if self._told:
            reason = "its holder was told to end, as when one logs out"
            raise Over(reason, left=self._guests.running)
        if self._pool.folder.stop.exists():
            self._closing = True
            self._guests.dismiss("its pool was stopped before it was started", sent=False)
            if not self._guests.running:
                raise Over("was stopped")
            self._state = replace(self._state, state="closing", reason="was stopped; ends with the last run on it")
        if self._state.ends is not None and time.time() > self._state.ends:  # systems look at it now and then
            raise Over(self._timed_out)
        idle = self._state.idle
        if idle is not None and time.time() - idle >= self._idle:
            raise Over(f"nothing ran on it for {format_time(self._idle)}")

    async def _end(self, over: Over) -> None:
        """Let the job go, and see to it that it is gone."""
        self._become("closing", over.reason)
        gone = over.gone or over.left
        patient = time.monotonic() + (_BY_ITSELF if self._allocation.worker is not None else 0.0)
        end = time.monotonic() + _GOING
        await self._allocation.close()
        while not gone and time.monotonic() < end:
            by_force = time.monotonic() > patient
            try:
                gone = await asyncio.to_thread(self._allocation.gone, cancel=by_force)
            except MlnbError as error:
                self._become("closing", f"{over.reason}; its job can't be ended yet: {error}")
            if not gone:
                await asyncio.sleep(_TICK if by_force else _TICK / 4)
        self._guests.dismiss(f"its pool has ended: {over.reason}", sent=not over.left)
        self._say(state="ended", reason=over.reason, idle=None, left=over.left or not gone)

    # what sessions ask

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {}
        try:
            peer = writer.get_extra_info("socket")
            if is_same_user(peer):
                answer = await self._answer(json.loads(await reader.readline()))
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": f"not understood: {error}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "cancel":
            grace = float(request["grace"])
            gone = await self._guests.cancel(request["run"], self._allocation.worker, self._call, grace)
            self._write()  # whoever asks next what became of it reads that
            self._news.set()
            return {"gone": gone}
        if self._closing or self._told or self._state.state not in ("pending", "starting", "running"):
            return {"error": f"takes no runs any more: {self._state.reason}"}
        self._guests.add(Path(request["run"]), int(request["attempt"]), dict(request["env"]))
        self._say(idle=None)
        self._news.set()
        return {"job": self._allocation.job}


def main(folder: PoolDir) -> int:
    """Hold the pool of ``folder``."""
    orphan_cleanup.fork(folder)
    from mlnb.targets.pool.allocation import Allocation  # brings distributed, and with it threads
    from mlnb.targets.pool.runs import Guests

    pool = Known(folder)

    async def hold() -> None:
        await Holder(pool, Allocation(pool), Guests()).main()

    asyncio.run(hold())
    return 0


if __name__ == "__main__":
    sys.exit(main(PoolDir(Path(sys.argv[1]))))
