"""A pool as a target: sends runs to the pool's daemon, which starts them on the pool's node."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mlnb.errors import MlnbError, UsageError
from mlnb.node.process.socket_request import send_request
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import NodeSettings, RunInfo
from mlnb.targets.base import SUBMITTING, Offer, Placement, Status, SubmissionUnknown, check_options, gpus_of
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue.states import has_heartbeat
from mlnb.targets.config.options import REQUEUE, TargetOption
from mlnb.targets.gpus.selection import refuse_gpu_selection
from mlnb.targets.many import cancel_at_once, submit_one_by_one
from mlnb.targets.mirror.base import Mirror
from mlnb.targets.node_zip import node_zip
from mlnb.targets.pool import folder, orphan_cleanup
from mlnb.targets.pool.folder import PoolDir, PoolInfo
from mlnb.task import Resources
from mlnb.units import format_size, format_time
from mlnb.workspace import Workspace

_ANSWER_TIMEOUT = 10.0
_KILL_PATIENCE = 10.0


class Pool:
    """Runs in a warm pool, each in processes of its own.

    Parameters
    ----------
    name
        as it is chosen with ``--on``: ``pool``, or ``pool:NAME`` where there are several.
    workspace
        the workspace that the pool belongs to.
    """

    kind: ClassVar[str] = "pool"
    options: ClassVar[tuple[TargetOption, ...]] = (REQUEUE,)
    settings: ClassVar[frozenset[str]] = frozenset()

    mirror: Mirror | None = None

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],  # noqa: ARG002 - those of its batch system apply
        workspace: Workspace,
    ) -> None:
        self.name, self.workspace = name, workspace
        self._offered: str | None = None

    def prepare(self) -> None:
        """Nothing: the pool is warm already."""

    def _pool(self) -> PoolInfo:
        """The pool that ``--on`` names. Raises ``UsageError`` if there is none that accepts runs."""
        try:
            return folder.find_pool(self.name.partition(":")[2] or None, self.workspace, accepting=True)
        except UsageError as error:
            raise UsageError(f"--on {self.name}: {error}") from None

    def _pool_in(self, folder_name: str) -> PoolInfo:
        return PoolInfo(PoolDir(folder.pools_root(self.workspace) / folder_name))

    # resources

    def resources(self) -> Mapping[str, Any]:
        """The cores and GPUs of the pool's job."""
        pool = self._pool()
        return {"cpus": pool.cores, "gpus": [str(index) for index in range(pool.resources.gpus or 0)]}

    def offer(self, requested: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        pool = self._pool()
        _check_compatible(pool)
        has = pool.resources
        pool_gpus = has.gpus or 0
        requested = replace(requested, gpus=gpus_of(requested, pool_gpus))
        gpus = requested.gpus or 0
        # the same share of the cores as of the GPUs
        share = pool.cores * gpus // pool_gpus if gpus and pool_gpus >= gpus else pool.cores
        cpus = requested.cpus or max(1, (share if gpus or not pool_gpus else 1) // requested.ranks)
        check_options(self, placement)
        _check_resources(pool, requested, cpus)
        self._offered = pool.id
        ranks = f"{requested.ranks} rank{'s' * (requested.ranks > 1)} × {cpus} core{'s' * (cpus > 1)}"
        gpu_count = f", {gpus} GPU{'s' * (gpus > 1)}" if gpus else ""
        lines = [f"{ranks}{gpu_count} of pool {pool.name}, which has {_pool_resources(pool)}"]
        if pool.written.ends_at is not None:
            lines.append(f"the pool ends in {format_time(max(0.0, pool.written.ends_at - time.time()))}")
        elif has.time is not None:
            lines.append(f"the pool lasts {format_time(has.time)} from its start")
        if pool.state != "running":
            lines.append(f"waits for the pool: {pool.reason}")
        requeue = placement.options.get("requeue") is not False
        job = NodeSettings.from_json(pool.request.get("node", {}))
        node = NodeSettings(
            grace=job.grace,
            threads=cpus,
            requeue=requeue and job.requeue,
            queue={"cpus": requested.ranks * cpus, "gpus": gpus},  # the pool's node adds where the queue is
        )
        resources = Resources(1, requested.ranks, gpus, cpus, requested.memory, requested.time)
        return Offer(resources, tuple(lines), node, {"pool": pool.id})

    def preview(self, run: RunDir, offer: Offer) -> str:  # noqa: ARG002
        """Nothing: the pool's job exists already."""
        return ""

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`. ``env`` goes over a socket that only this user can open."""
        info = RunInfo.read(run)
        if "pool" not in info.placement:
            raise UsageError(f"--on {self.name}: that run was submitted to {info.target}; resume it there")
        pool = self._pool_in(self._offered or info.placement["pool"])
        if not pool.live:
            pool = self._pool()
        attempt = max(1, len(run.attempts()))
        answer = _send_to_daemon(
            pool, {"do": "run", "run": str(run.path), "attempt": attempt, "env": dict(env)}, _ANSWER_TIMEOUT
        )
        if "error" in answer:
            raise MlnbError(f"pool {pool.name} {answer['error']}")
        return {"target": self.name, "pool": pool.id, "job": answer["job"], "submitted": time.time()}

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """See :class:`mlnb.targets.base.Target`."""
        return submit_one_by_one(self, runs, envs)

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        pools: dict[str, PoolInfo] = {}
        statuses = []
        for run in runs:
            handle = read_json(run.handle)
            name = str((handle or RunInfo.read(run).placement).get("pool"))
            pool = pools.setdefault(name, self._pool_in(name))
            statuses.append(_status(run, pool, self.workspace, submitted=handle is not None))
        return statuses

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. The pool and its other runs continue."""
        info = RunInfo.read(run)
        pool = self._pool_in(str((read_json(run.handle) or info.placement).get("pool")))
        grace = info.node.grace
        try:
            request = {"do": "cancel", "run": run.path.name, "grace": grace}
            if pool.live and _send_to_daemon(pool, request, grace + _KILL_PATIENCE).get("gone"):
                return True
        except MlnbError:
            pass  # the daemon has died: the node program looks for cancel.json itself
        end = time.monotonic() + grace + _KILL_PATIENCE
        while has_heartbeat(run):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def cancel_many(self, runs: Sequence[RunDir]) -> list[bool]:
        """See :class:`mlnb.targets.base.Target`."""
        return cancel_at_once(self, runs)


def _check_compatible(pool: PoolInfo) -> None:
    """Refuse a pool that another version of mlnb or Python, or a session on another machine, has started.

    Raises
    ------
    UsageError
        if it was.
    """
    restart = f"%pool stop {pool.name}, and start it again"
    if pool.request["bundle"] != node_zip().digest:
        raise UsageError(f"--on pool: {pool.name} was started by another version of mlnb: {restart}")
    host = pool.written.daemon.get("host")
    if host not in (None, socket.gethostname()):
        raise UsageError(f"--on pool: {pool.name} was started on {host}, and accepts runs of sessions on {host} only")


def _check_resources(pool: PoolInfo, requested: Resources, cpus: int) -> None:
    """Check that the pool has the requested resources.

    Raises
    ------
    UsageError
        if not; the message says what it has, and which target to use instead.
    """
    has = pool.resources
    advice = f"use --on {pool.request['on']}"
    time_left = has.time if pool.written.ends_at is None else max(0, int(pool.written.ends_at - time.time()))
    for flag, wanted, most, description in (
        ("--nodes", requested.nodes, 1, "1 node"),
        ("--gpus", requested.gpus or 0, has.gpus or 0, f"{has.gpus} GPU{'s' * (has.gpus != 1)}"),
        ("--cpus", requested.ranks * cpus if requested.cpus else 0, pool.cores, f"{pool.cores} cores"),
        ("--memory", requested.memory or 0, has.memory, format_size(has.memory or 0)),
        ("--time", requested.time or 0, time_left, f"{format_time(time_left or 0)} left"),
    ):
        if most is not None and wanted > most:
            value = {"--memory": format_size, "--time": format_time}.get(flag, str)(wanted)
            raise UsageError(f"{flag} {value}: pool {pool.name} has {description}; {advice}")
    refuse_gpu_selection(requested, f"on pool {pool.name}, whose job runs already; {advice}")


def _pool_resources(pool: PoolInfo) -> str:
    """A pool's GPUs and cores, as in ``1 GPU, 4 cores``."""
    has = pool.resources
    gpus = f"{has.gpus} GPU{'s' * (has.gpus > 1)}, " if has.gpus else ""
    return f"{gpus}{pool.cores} core{'s' * (pool.cores > 1)}"


def _send_to_daemon(pool: PoolInfo, request: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """Send a request to the pool's daemon; returns its answer.

    Raises
    ------
    SubmissionUnknown
        if the daemon got the request and did not answer.
    MlnbError
        if the daemon can't be reached.
    """
    try:
        return send_request(Path(str(pool.written.daemon.get("socket", ""))), request, patience)
    except OSError as error:
        no_answer = isinstance(error, (TimeoutError, ConnectionAbortedError, ConnectionResetError))
        problem = SubmissionUnknown if no_answer else MlnbError
        raise problem(f"pool {pool.name} does not answer ({error}); it is {pool.state}: {pool.reason}") from None


def _status(run: RunDir, pool: PoolInfo, workspace: Workspace, *, submitted: bool) -> Status:
    """The status of one run of ``pool``; ``submitted``: whether its submission is complete."""
    entry = pool.written.runs.get(run.path.name)
    if entry is not None and entry["state"] == "over" and entry["attempt"] >= len(run.attempts()):
        return Status(False, reason=str(entry["reason"]))
    if entry is not None and entry["state"] == "interrupted" and pool.live:
        resumes = "continues from its newest checkpoint when the pool is back"
        return Status(True, "pending", f"{entry['reason']}; {resumes}{f' ({pool.reason})' if pool.reason else ''}")
    if has_heartbeat(run):
        waits_for = str(entry["reason"]) if entry is not None and entry["state"] == "sent" else ""
        return Status(True, "pending", waits_for) if waits_for else Status(True, "running")
    if not pool.request:
        return Status(False, reason="the folder of its pool is gone")
    if not pool.live:
        return _status_without_daemon(pool, workspace, entry)
    if entry is None:
        silent = time.time() - pool.written.written_at > folder.HEARTBEAT * 2
        if submitted and not silent:
            return Status(False, reason="its pool does not list it")
        return Status(None, "pending", SUBMITTING)
    if entry["state"] == "sent":
        return Status(True, "starting", "starting Python…")
    reason = str(entry["reason"]) or f"waits for pool {pool.name}"
    return Status(True, "pending", reason if pool.state == "running" else f"{reason}: {pool.reason}")


def _status_without_daemon(pool: PoolInfo, workspace: Workspace, entry: Mapping[str, Any] | None) -> Status:
    """The status of a run without heartbeats whose pool has no daemon: the pool's job may still run."""
    reason = f"its pool has ended: {pool.reason}"
    was_started = entry is not None and entry["state"] == "sent"
    if not was_started or (pool.written.state == "ended" and not pool.written.left_to_runs):
        orphan_cleanup.cancel_orphaned_job(pool, workspace)
        return Status(False, reason=reason)
    from mlnb.targets.pool.allocation import system_of

    listing = queue_listing.list_queue(system_of(pool, workspace))
    if listing.error:
        return Status(None, "running", listing.error)
    if any(job in listing.jobs and listing.jobs[job].state == "running" for job in pool.written.jobs):
        return Status(True, "running")
    return Status(False, reason=reason)
