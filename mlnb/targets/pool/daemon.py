"""A pool's daemon: a detached process that keeps the pool's job, and sends runs to it.

``python -m mlnb.targets.pool.daemon FOLDER``, with the workspace as JSON on its standard input. It outlives the session
that started it. Sessions talk to it over a Unix socket in the workspace's private runtime folder, so that the values of
``--env`` are written nowhere.
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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.node import pool_node
from mlnb.node.process.identity import process_identity
from mlnb.node.process.socket_request import is_same_user
from mlnb.rundir import write_json
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.pool import orphan_cleanup
from mlnb.targets.pool.folder import HEARTBEAT, PoolDir, PoolInfo, PoolState
from mlnb.units import format_time
from mlnb.workspace import Workspace

if TYPE_CHECKING:
    from mlnb.targets.pool.allocation import Allocation, QueueView
    from mlnb.targets.pool.runs import PoolRuns

_TICK = 1.0
"""Seconds between two polls of the node or the queue."""

_WORKER_TIMEOUT = 120.0
"""Seconds for which a running job may have no worker."""

_UNLISTED_TIMEOUT = 20.0
"""Seconds for which the queue may not list the job: a controller that has just started may not know it yet."""

_EXIT_PATIENCE = 5.0
"""Seconds that the job has to end by itself after its worker was disconnected, before it is cancelled."""

_CANCEL_PATIENCE = 600.0
"""Seconds for which cancelling the job is tried again if the batch system does not answer."""


class PoolEnds(Exception):
    """Raised to end the pool.

    Parameters
    ----------
    reason
        why, as a text to show.
    job_gone
        whether its job has left the queue already.
    left_to_runs
        whether to leave the job alone, so that it ends with the last run on it.
    """

    def __init__(self, reason: str, *, job_gone: bool = False, left_to_runs: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.job_gone, self.left_to_runs = reason, job_gone, left_to_runs


class PoolDaemon:
    """Keeps one pool until it ends, and is the only writer of its state.

    Parameters
    ----------
    pool
        the pool, as its files describe it when the daemon starts.
    allocation
        its job, which is not submitted yet.
    runs
        its runs; none yet.
    workspace
        the workspace that it belongs to.
    """

    def __init__(self, pool: PoolInfo, allocation: Allocation, runs: PoolRuns, workspace: Workspace) -> None:
        self._pool, self._allocation, self._runs = pool, allocation, runs
        digest = hashlib.sha256(os.fsencode(pool.folder.path)).hexdigest()
        self._socket = workspace.socket_path(f"pool-{digest[:12]}.sock")
        pid = os.getpid()
        daemon = {"pid": pid, "identity": process_identity(pid), "host": socket.gethostname()}
        self._state = PoolState(
            reason="is being submitted",
            daemon={**daemon, "socket": str(self._socket)},
            since=float(pool.request["since"]),
        )
        self._idle_timeout = float(pool.request["idle"])
        self._wake = asyncio.Event()
        self._terminated = self._closing = False
        self._missing_since: float | None = None
        self._last_written, self._written_at = self._state, 0.0

    async def main(self) -> None:
        """Submit the pool's job, send runs to it, and end it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        self._write()
        self._socket.unlink(missing_ok=True)
        try:
            await self._allocation.open()
            job = await asyncio.to_thread(self._allocation.submit)
        except SubmissionUnknown as error:
            self._set_state("closing", str(error))
            sys.exit(1)  # the cleanup process (orphan_cleanup) looks for the job
        except MlnbError as error:
            self._set_state("ended", str(error))
            return
        self._update(jobs=(job,), scheduler=self._allocation.address, reason=f"was submitted as job {job}")
        async with await asyncio.start_unix_server(self._handle_connection, self._socket):
            try:
                while True:
                    await self._tick()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _TICK)
                    self._wake.clear()
            except PoolEnds as end:
                await self._end_pool(end)
            finally:
                self._socket.unlink(missing_ok=True)

    def _on_signal(self) -> None:
        self._terminated = True
        self._wake.set()

    # the state file

    def _set_state(self, state: str, reason: str) -> None:
        self._update(state=state, reason=reason)

    def _update(self, **values: Any) -> None:
        self._state = replace(self._state, **values)
        self._write()

    def _write(self) -> None:
        """Write the state if it has changed, or if the last heartbeat is due again."""
        state = replace(self._state, runs=self._runs.summary())
        if state != self._last_written or time.time() - self._written_at > HEARTBEAT:
            self._last_written, self._written_at = state, time.time()
            write_json(self._pool.folder.state, replace(state, written_at=self._written_at).to_json())

    # the node and the queue

    async def _tick(self) -> None:
        """Update the state from the node, or from the queue while there is no worker; end the pool if it is time."""
        worker = self._allocation.worker
        if worker is not None:
            with contextlib.suppress(OSError):  # the worker has just left: the next tick finds out why
                await self._poll_node(worker)
        else:
            self._follow_queue(await asyncio.to_thread(self._allocation.queue_view))
        self._check_end()
        self._write()

    async def _poll_node(self, worker: str) -> None:
        """Start the runs that wait, and update the states of those that run."""
        self._missing_since = None
        polled = self._runs.processes()
        node = await self._allocation.call(worker, pool_node.pool_status, polled)
        self._runs.update(polled, node["alive"])
        ends_at = node["ends"] or self._state.ends_at or await asyncio.to_thread(self._allocation.ends_at)
        state, reason = "running", ""
        if not node["ready"]:
            state, reason = "starting", f"importing torch on {node['host']}"
        elif not self._closing:
            self._runs.resolve_interrupted(node["job_start"], ends_at)
            await self._runs.start_waiting(node["job_start"], self._call, ends_at)
        idle_since = None
        if state == "running" and not self._runs.active:
            idle_since = self._state.idle_since or time.time()
        if not self._closing:
            self._state = replace(self._state, state=state, reason=reason)
        self._state = replace(self._state, host=node["host"], ends_at=ends_at, idle_since=idle_since)

    async def _call(self, function: Any, *arguments: Any) -> Any:
        worker = self._allocation.worker
        if worker is None:
            raise ConnectionAbortedError("the pool has no worker")
        return await self._allocation.call(worker, function, *arguments)

    def _follow_queue(self, view: QueueView) -> None:
        """Set the state from the queue, which shows why there is no worker.

        Raises
        ------
        PoolEnds
            if the job has ended, is no longer listed, or has been without a worker for too long.
        """
        job, system = view.job, self._allocation.system.display_name
        if view.error:
            self._state = replace(self._state, reason=view.error)
        elif job is None:
            if self._missing_for() > _UNLISTED_TIMEOUT:
                raise PoolEnds(f"{system} no longer lists its job {self._allocation.job}", job_gone=True)
            self._state = replace(self._state, reason=f"{system} does not list its job {self._allocation.job}")
        elif job.state == "ended":
            raise PoolEnds(self._end_reason(job.cause, job.reason), job_gone=True)
        elif job.state == "pending":
            self._missing_since = None
            self._runs.job_requeued()
            reason = job.reason or f"Waiting in the queue ({job.code})"
            if job.start is not None and job.start > time.time():
                reason += f"; {system} expects it to start in {format_time(job.start - time.time())}"
            state = "closing" if self._closing else "pending"
            self._state = replace(self._state, state=state, reason=reason, idle_since=None, ends_at=None)
        else:
            if self._missing_for() > _WORKER_TIMEOUT:
                raise PoolEnds("its job runs, but its worker does not answer", left_to_runs=self._runs.any_started)
            nodes = f" on {', '.join(job.nodes)}" if job.nodes else ""
            state = "closing" if self._closing else "starting"
            reason = f"starting its worker{nodes}"
            self._state = replace(self._state, state=state, reason=reason, idle_since=None)

    def _missing_for(self) -> float:
        """Seconds since the job or its worker was first missing."""
        self._missing_since = self._missing_since or time.monotonic()
        return time.monotonic() - self._missing_since

    def _end_reason(self, cause: str, description: str) -> str:
        """Why the pool ends, after the batch system has ended its job."""
        if cause == "time":
            return self._timed_out
        return f"its job {self._allocation.job} {'ended by itself' if cause == 'completed' else description}"

    @property
    def _timed_out(self) -> str:
        limit = self._pool.resources.time
        return f"its time was over{f' ({format_time(limit)})' if limit else ''}"

    def _check_end(self) -> None:
        """Check whether the pool has to end.

        Raises
        ------
        PoolEnds
            if it was stopped, is out of time or idle for too long, or this process got a signal to end.
        """
        if self._terminated:
            reason = "its daemon got a signal to end, as at logout"
            raise PoolEnds(reason, left_to_runs=self._runs.any_started)
        if self._pool.folder.stop.exists():
            self._closing = True
            self._runs.end_all("its pool was stopped before it was started", started=False)
            if not self._runs.any_started:
                raise PoolEnds("was stopped")
            self._state = replace(self._state, state="closing", reason="was stopped; ends with the last run on it")
        # batch systems enforce time limits only now and then
        if self._state.ends_at is not None and time.time() > self._state.ends_at:
            raise PoolEnds(self._timed_out)
        idle_since = self._state.idle_since
        if idle_since is not None and time.time() - idle_since >= self._idle_timeout:
            raise PoolEnds(f"nothing ran on it for {format_time(self._idle_timeout)}")

    async def _end_pool(self, end: PoolEnds) -> None:
        """Disconnect the worker, so that the job ends; cancel the job if it does not."""
        self._set_state("closing", end.reason)
        job_gone = end.job_gone or end.left_to_runs
        started = time.monotonic()
        cancel_after = started + (_EXIT_PATIENCE if self._allocation.worker is not None else 0.0)
        await self._allocation.close()
        while not job_gone and time.monotonic() < started + _CANCEL_PATIENCE:
            cancel = time.monotonic() > cancel_after
            try:
                job_gone = await asyncio.to_thread(self._allocation.gone, cancel=cancel)
            except MlnbError as error:
                self._set_state("closing", f"{end.reason}; its job can't be ended yet: {error}")
            if not job_gone:
                await asyncio.sleep(_TICK if cancel else _TICK / 4)
        self._runs.end_all(f"its pool has ended: {end.reason}", started=not end.left_to_runs)
        left_to_runs = end.left_to_runs or not job_gone
        self._update(state="ended", reason=end.reason, idle_since=None, left_to_runs=left_to_runs)

    # requests of sessions

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {}
        try:
            peer = writer.get_extra_info("socket")
            if is_same_user(peer):
                answer = await self._answer(json.loads(await reader.readline()))
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": f"can't read the request: {error}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "cancel":
            grace = float(request["grace"])
            gone = await self._runs.cancel(request["run"], self._allocation.worker, self._call, grace)
            self._write()  # now, so that the next reader gets the new state
            self._wake.set()
            return {"gone": gone}
        if self._closing or self._terminated or self._state.state not in ("pending", "starting", "running"):
            return {"error": f"accepts no more runs: {self._state.reason}"}
        self._runs.add(Path(request["run"]), int(request["attempt"]), dict(request["env"]))
        self._update(idle_since=None)
        self._wake.set()
        return {"job": self._allocation.job}


def main(folder: PoolDir, workspace: Workspace) -> int:
    """Run the daemon of the pool in ``folder``; returns its exit code."""
    orphan_cleanup.fork(folder, workspace)
    from mlnb.targets.pool.allocation import Allocation  # starts threads (distributed): import it after the fork
    from mlnb.targets.pool.runs import PoolRuns

    pool = PoolInfo(folder)

    async def run() -> None:
        await PoolDaemon(pool, Allocation(pool, workspace), PoolRuns(), workspace).main()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main(PoolDir(Path(sys.argv[1])), Workspace.from_json(json.load(sys.stdin))))
