"""A pool's allocation: a Dask scheduler on this machine, one batch job with one Dask worker, TLS between them.

The job is made with dask-jobqueue's Job class, like that of any run; the worker is called with ``Client.run``. There
is no ``SpecCluster`` above them. Nothing scales here, and a ``SpecCluster`` would cancel a job that was queued again
(after its ``lost-worker-timeout``, or when a name is used again), and repeat tasks whose worker was lost.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dask
from distributed import Client, Scheduler
from distributed.security import Security

from mlnb.errors import UsageError
from mlnb.node.pool_node import WORKER_FILE
from mlnb.rundir import write_atomic, write_json
from mlnb.runinfo import NodeSettings, RunInfo
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.submission.job import Job, body_of
from mlnb.targets.batch.system import System
from mlnb.targets.batch.target import BatchTarget
from mlnb.targets.config import settings
from mlnb.targets.containers import Wrapped
from mlnb.targets.pool.folder import PoolInfo
from mlnb.targets.registry import target
from mlnb.workspace import Workspace

_CALL_TIMEOUT = 10.0
_DEATH_TIMEOUT = "60s"
"""How long a worker looks for its scheduler. A job that starts after its daemon has died ends after this time."""


@dataclass(frozen=True)
class QueueView:
    """The pool's job as the queue lists it.

    Attributes
    ----------
    job
        ``None`` if the queue does not list it.
    error
        why the queue could not be queried; empty if it was.
    """

    job: QueuedJob | None
    error: str = ""


class Allocation:
    """The scheduler and the job of one pool.

    Parameters
    ----------
    pool
        the pool.
    workspace
        whose pool it is.
    """

    def __init__(self, pool: PoolInfo, workspace: Workspace) -> None:
        self._pool = pool
        self.target = batch_target(str(pool.request["on"]), workspace)
        self.system = system_of(pool, workspace)
        self._interval = settings.seconds(self.system.settings, "poll") or queue_listing.INTERVAL
        self._submitted_at = self._cancelled_at = 0.0
        self.job = ""

    async def open(self) -> None:
        """Start the scheduler, and write how the worker reaches it (``worker.json`` and the TLS credentials)."""
        folder, resources = self._pool.folder, self._pool.resources
        security = Security.temporary()  # type: ignore[no-untyped-call]
        files = folder.credentials()
        for path, content in zip(
            files, (security.tls_ca_file, security.tls_worker_cert, security.tls_worker_key), strict=True
        ):
            write_atomic(path, str(content))
        interface = str(self.system.settings.get("interface") or self.system.section.interface or "") or None
        with dask.config.set(
            {"distributed.scheduler.http.routes": []}
        ):  # the HTTP server can't be left out, but serves nothing
            self._scheduler = await Scheduler(
                protocol="tls",
                security=security,
                interface=interface,
                dashboard=False,
                dashboard_address="127.0.0.1:0",
                allowed_failures=0,
            )
        self._client = await Client(  # type: ignore[no-untyped-call]
            self._scheduler.address, security=security, asynchronous=True, set_as_default=False
        )
        python = str(self.system.settings.get("python") or sys.executable)
        command = [python, "-m", "distributed.cli.dask_worker", self._scheduler.address]
        command += ["--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--death-timeout", _DEATH_TIMEOUT]
        command += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--protocol", "tls"]
        for flag, path in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=True):
            command += [flag, str(path)]
        command += ["--interface", interface] if interface else []
        worker_info = {"worker": command, "name": self._pool.id, "cpus": self._pool.cores, "gpus": resources.gpus}
        write_json(folder.path / WORKER_FILE, worker_info)

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(self._scheduler.address)

    def submit(self) -> str:
        """Submit the job; returns its id.

        Raises
        ------
        SubmissionUnknown
            if the batch system did not answer, and does not list the job.
        MlnbError
            if the batch system refuses it.
        """
        self.job = job_of(self._pool, self.target).submit().job
        self._submitted_at = time.time()
        queue_listing.expire(self.system)
        return self.job

    def queue_view(self) -> QueueView:
        """The job as the queue lists it; the queue is queried no more often than for runs."""
        listing = queue_listing.list_queue(self.system, self._interval, after=self._submitted_at)
        job = listing.jobs.get(self.job)
        if job is None and listing.time < self._submitted_at:
            return QueueView(QueuedJob("pending", "other", f"Submitted to {self.system.display_name}"))
        return QueueView(job, listing.error)

    def ends_at(self) -> float | None:
        """When the job reaches its time limit, by the queue's start time; ``None`` if that isn't known."""
        job, limit = self.queue_view().job, self._pool.resources.time
        return job.start + limit if job is not None and job.start is not None and limit is not None else None

    def gone(self, *, cancel: bool) -> bool:
        """Check whether the job has left the queue.

        Parameters
        ----------
        cancel
            whether to cancel it first.

        Raises
        ------
        SystemUnavailable
            if the batch system does not answer.
        """
        if cancel and time.time() - self._cancelled_at > self._interval:
            self._cancelled_at = time.time()
            self.system.cancel(self.job)
            queue_listing.expire(self.system)
        # a job whose worker was disconnected ends soon: query often
        listing = queue_listing.list_queue(self.system, self._interval if cancel else min(1.0, self._interval))
        job = listing.jobs.get(self.job)
        answered = not listing.error and listing.answered > max(self._cancelled_at, self._submitted_at)
        return answered and (job is None or job.state == "ended" or job.cleaning_up)

    @property
    def worker(self) -> str | None:
        """The address of the worker, the newest if there are several; ``None`` while none is connected."""
        return next(reversed(self._scheduler.workers), None)

    async def call(self, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function(*arguments)`` in the worker; returns what it returns.

        Raises
        ------
        OSError
            if the worker is gone or does not answer, or if the function raised an exception.
        """
        called = self._client.run(function, *arguments, workers=[worker], on_error="return")
        try:
            answers = await asyncio.wait_for(called, _CALL_TIMEOUT)
        except (asyncio.TimeoutError, ValueError) as error:  # ValueError: the worker has just left
            raise ConnectionAbortedError(f"{worker} does not answer") from error
        answer = answers.get(worker)
        if isinstance(answer, BaseException):
            raise ConnectionAbortedError(f"{worker}: {answer}") from answer
        return answer

    async def close(self) -> None:
        """Disconnect the worker, so that the job ends, and remove the credentials."""
        await self._client.close()
        await self._scheduler.close(reason="the pool is closed")
        for path in self._pool.folder.credentials():
            path.unlink(missing_ok=True)


def job_of(pool: PoolInfo, target_: BatchTarget) -> Job:
    """The pool's job: like that of a run with these resources, but it runs ``mlnb.node.pool_node``."""
    node = NodeSettings.from_json(pool.request.get("node", {}))
    info = RunInfo(pool.id, pool.name, node=node, placement={**pool.request.get("placement", {}), "name": pool.name})
    folder = pool.folder.job
    job = target_.job(folder, pool.resources, info, {}, attempt=1)
    python = str(target_.system.settings.get("python") or sys.executable)
    command = Wrapped([python, "-m", "mlnb.node.pool_node", str(folder.path)])
    return replace(job, body=body_of(target_.system, job.request, folder, command))


def system_of(pool: PoolInfo, workspace: Workspace) -> System:
    """The batch system (and its cluster) that has the pool's job."""
    return batch_target(str(pool.request["on"]), workspace).system.on_cluster(str(pool.request.get("cluster", "")))


def batch_target(name: str, workspace: Workspace) -> BatchTarget:
    """The target called ``name``, if it is a batch system.

    Raises
    ------
    UsageError
        if it is not.
    """
    loaded = target(name, workspace)
    if not isinstance(loaded, BatchTarget):
        raise UsageError(f"--on {name}: a pool is an allocation of a batch system, as in --on slurm")
    return loaded
