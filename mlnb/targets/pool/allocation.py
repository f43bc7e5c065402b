"""A pool's allocation: a Dask scheduler here, one job of the batch system with one worker there, TLS between them.

The job is made with dask-jobqueue's Job class, like that of any run, and the worker is asked with ``Client.run``. There
is no ``SpecCluster`` above them: nothing scales here, and it is what would cancel a job that was queued again (when its
``lost-worker-timeout`` is over, or a name is used again), and start tasks twice that a worker took with it.
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
from mlnb.targets.batch import queue_listing
from mlnb.targets.batch.job import Job, body_of
from mlnb.targets.batch.system import QueuedJob, System
from mlnb.targets.batch.target import JobQueue
from mlnb.targets.config import settings
from mlnb.targets.containers import Wrapped
from mlnb.targets.pool.folder import Known
from mlnb.targets.registry import target

_ANSWER = 10.0
_PATIENCE = "60s"
"""How long a worker looks for its scheduler. One that starts behind its holder's death ends its job so."""


@dataclass(frozen=True)
class Seen:
    """The job as the queue has it: ``job`` is ``None`` if it has none, ``error`` says why it can't be told."""

    job: QueuedJob | None
    error: str = ""


class Allocation:
    """What one pool has.

    Parameters
    ----------
    pool
        whose.
    """

    def __init__(self, pool: Known) -> None:
        self._pool = pool
        self.target = batch_target(str(pool.asked["on"]))
        self.system = system_of(pool)
        self._interval = settings.seconds(self.system.settings, "poll") or queue_listing.INTERVAL
        self._submitted = self._told = 0.0
        self.job = ""

    async def open(self) -> None:
        """Have the scheduler listen, and write down for the worker how to find it."""
        folder, resources = self._pool.folder, self._pool.resources
        made = Security.temporary()  # type: ignore[no-untyped-call]
        files = folder.credentials()
        for path, content in zip(files, (made.tls_ca_file, made.tls_worker_cert, made.tls_worker_key), strict=True):
            write_atomic(path, str(content))
        interface = _interface(self.target)
        with dask.config.set({"distributed.scheduler.http.routes": []}):  # what is left of its server answers nothing
            self._scheduler = await Scheduler(
                protocol="tls",
                security=made,
                interface=interface,
                dashboard=False,
                dashboard_address="127.0.0.1:0",
                allowed_failures=0,
            )
        self._client = await Client(  # type: ignore[no-untyped-call]
            self._scheduler.address, security=made, asynchronous=True, set_as_default=False
        )
        python = str(self.system.settings.get("python") or sys.executable)
        words = [python, "-m", "distributed.cli.dask_worker", self._scheduler.address]
        words += ["--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--death-timeout", _PATIENCE]
        words += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--protocol", "tls"]
        for flag, path in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=True):
            words += [flag, str(path)]
        words += ["--interface", interface] if interface else []
        about = {"worker": words, "name": self._pool.id, "cpus": self._pool.cores, "gpus": resources.gpus}
        write_json(folder.path / WORKER_FILE, about)

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return str(self._scheduler.address)

    def submit(self) -> str:
        """Submit the job; its id.

        Raises
        ------
        MlnbError
            if the system refuses it.
        """
        self.job = job_of(self._pool, self.target).submit().job
        self._submitted = time.time()
        queue_listing.forget(self.system)
        return self.job

    def look(self) -> Seen:
        """The job in the queue, which is looked at no more often than for runs."""
        seen = queue_listing.listing(self.system, self._interval, after=self._submitted)
        job = seen.jobs.get(self.job)
        if job is None and seen.taken < self._submitted:
            return Seen(QueuedJob("pending", "other", f"was submitted to {self.system.display_name}"))
        return Seen(job, seen.error)

    def ends(self) -> float | None:
        """When the time of the job is over that runs, by the queue's account."""
        job, time_ = self.look().job, self._pool.resources.time
        return job.start + time_ if job is not None and job.start is not None and time_ is not None else None

    def gone(self, *, cancel: bool) -> bool:
        """Whether the job has left the queue; with ``cancel`` it is made to.

        Raises
        ------
        NotThere
            if the system does not answer.
        """
        if cancel and time.time() - self._told > self._interval:
            self._told = time.time()
            self.system.cancel(self.job)
            queue_listing.forget(self.system)
        # one that was only let go ends in a moment, or is cancelled soon
        seen = queue_listing.listing(self.system, self._interval if cancel else min(1.0, self._interval))
        job = seen.jobs.get(self.job)
        heard = not seen.error and seen.heard > max(self._told, self._submitted)
        return heard and (job is None or job.state == "ended" or job.ending)

    @property
    def worker(self) -> str | None:
        """The worker's address while it is connected: the newest, where one has come back."""
        return next(reversed(self._scheduler.workers), None)

    async def call(self, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns over there.

        Raises
        ------
        OSError
            if the worker is gone, or does not answer.
        """
        called = self._client.run(function, *arguments, workers=[worker], on_error="return")
        try:
            answers = await asyncio.wait_for(called, _ANSWER)
        except (asyncio.TimeoutError, ValueError) as error:  # a ValueError is of a worker that left this moment
            raise ConnectionAbortedError(f"{worker} does not answer") from error
        answer = answers.get(worker)
        if isinstance(answer, BaseException):
            raise ConnectionAbortedError(f"{worker}: {answer}") from answer
        return answer

    async def close(self) -> None:
        """Let go of the worker, which then lets its job end."""
        await self._client.close()
        await self._scheduler.close(reason="the pool is closed")
        for path in self._pool.folder.credentials():
            path.unlink(missing_ok=True)


def job_of(pool: Known, place: JobQueue) -> Job:
    """The pool's job: that of a run with these resources, but for what it runs."""
    about = {**pool.asked["about"], "id": pool.id, "name": pool.name}
    folder = pool.folder.job
    job = place.job(folder, pool.resources, about, {}, attempt=1)
    python = str(place.system.settings.get("python") or sys.executable)
    command = Wrapped([python, "-m", "mlnb.node.pool_node", str(folder.path)])
    return replace(job, body=body_of(place.system, job.request, folder, command))


def system_of(pool: Known) -> System:
    """The batch system that the pool's job is of, to be asked for it."""
    return batch_target(str(pool.asked["on"])).system.at(str(pool.asked.get("cluster", "")))


def batch_target(name: str) -> JobQueue:
    """The batch system that ``--on name`` means.

    Raises
    ------
    UsageError
        if it means none.
    """
    place = target(name)
    if not isinstance(place, JobQueue):
        raise UsageError(f"--on {name}: a pool is an allocation of a batch system, as in --on slurm")
    return place


def _interface(place: JobQueue) -> str | None:
    """The network interface between here and the nodes, where the site names one: as dask-jobqueue is told of it."""
    section = f"jobqueue.{place.system.settings.get('jobqueue', place.system.kind)}"
    for found in (
        place.system.settings.get("interface"),
        dask.config.get(f"{section}.scheduler-options.interface", None),
        dask.config.get(f"{section}.interface", None),
    ):
        if found:
            return str(found)
    return None
