"""A pool as a target: runs go to its holder, which has them started on the node that it keeps."""

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
from mlnb.targets.base import Offer, Placement, Status, SubmissionUnknown, gpus_of
from mlnb.targets.batch import queue_listing
from mlnb.targets.batch.states import beats
from mlnb.targets.node_zip import bundle
from mlnb.targets.pool import folder, orphan_cleanup
from mlnb.targets.pool.folder import Known, PoolDir
from mlnb.task import Resources
from mlnb.units import format_size, format_time

GRACE = 20.0
_ANSWER = 10.0
_KILL = 10.0


class Pool:
    """Runs in a warm pool, each in processes of its own.

    Parameters
    ----------
    name
        as it is chosen with ``--on``: ``pool``, or ``pool:NAME`` where there are several.
    """

    kind: ClassVar[str] = "pool"
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - a pool has its batch system's
        self.name = name
        self._chosen: str | None = None

    def prepare(self) -> None:
        """Nothing to do: that is what pools are for."""

    def _pool(self) -> Known:
        try:
            return folder.choose(self.name.partition(":")[2] or None, runs=True)
        except UsageError as error:
            raise UsageError(f"--on {self.name}: {error}") from None

    # what there is

    def resources(self) -> Mapping[str, Any]:
        """What the pool has."""
        pool = self._pool()
        return {"cpus": pool.cores, "gpus": [str(index) for index in range(pool.resources.gpus or 0)]}

    def offer(self, asked: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        pool = self._pool()
        _check_same(pool)
        has = pool.resources
        there = has.gpus or 0
        asked = replace(asked, gpus=gpus_of(asked, there))
        wanted = asked.gpus or 0
        share = pool.cores * wanted // there if wanted and there >= wanted else pool.cores
        cpus = asked.cpus or max(1, (share if wanted or not there else 1) // asked.ranks)
        _check(pool, asked, placement, cpus)
        self._chosen = pool.id
        ranks = f"{asked.ranks} rank{'s' * (asked.ranks > 1)} × {cpus} core{'s' * (cpus > 1)}"
        gpus = f", {wanted} GPU{'s' * (wanted > 1)}" if wanted else ""
        words = [f"{ranks}{gpus} of pool {pool.name}, which has {_has(pool)}"]
        if pool.written.ends is not None:
            words.append(f"the pool ends in {format_time(max(0.0, pool.written.ends - time.time()))}")
        elif has.time is not None:
            words.append(f"the pool lasts {format_time(has.time)} from its start")
        if pool.state != "running":
            words.append(f"waits for the pool: {pool.reason}")
        about = {
            "pool": pool.id,
            "slots": {"cpus": asked.ranks * cpus, "gpus": wanted},
            "threads": cpus,
            "grace": float(pool.asked["about"].get("grace", GRACE)),
            "requeue": placement.requeue is not False and bool(pool.asked["about"].get("requeue", True)),
        }
        return Offer(Resources(1, asked.ranks, wanted, cpus, asked.memory, asked.time), tuple(words), about)

    def preview(self, run: RunDir, offer: Offer) -> str:  # noqa: ARG002
        """Nothing: the pool's job is there already."""
        return ""

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`. ``env`` goes over a socket that only this user can open."""
        about = read_json(run.run) or {}
        if "pool" not in about:
            raise UsageError(f"--on {self.name}: that run was submitted to {about.get('target')}; resume it there")
        known = Known(PoolDir(folder.root() / (self._chosen or about["pool"])))
        pool = known if known.live else self._pool()
        attempt = max(1, len(run.attempts()))
        answer = _ask(pool, {"do": "run", "run": str(run.path), "attempt": attempt, "env": dict(env)}, _ANSWER)
        if "error" in answer:
            raise MlnbError(f"pool {pool.name} {answer['error']}")
        return {"target": self.name, "pool": pool.id, "job": answer["job"], "submitted": time.time()}

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        pools: dict[str, Known] = {}
        found = []
        for run in runs:
            handle = read_json(run.handle)
            name = str((handle or read_json(run.run) or {}).get("pool"))
            pool = pools.setdefault(name, Known(PoolDir(folder.root() / name)))
            found.append(_status(run, pool, handed=handle is not None))
        return found

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. The pool stays, and what else runs on it."""
        about = read_json(run.run) or {}
        pool = Known(PoolDir(folder.root() / str((read_json(run.handle) or about).get("pool"))))
        grace = float(about.get("grace", GRACE))
        try:
            request = {"do": "cancel", "run": run.path.name, "grace": grace}
            if pool.live and _ask(pool, request, grace + _KILL).get("gone"):
                return True
        except MlnbError:
            pass  # its holder has died: the node program sees by itself that the run was cancelled
        end = time.monotonic() + grace + _KILL
        while beats(run):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


def _check_same(pool: Known) -> None:
    """Refuse a pool that runs another Python or another mlnb than this session's.

    Raises
    ------
    UsageError
        saying what to do.
    """
    again = f"%pool stop {pool.name}, and start it again"
    if pool.asked["bundle"] != bundle().digest:
        raise UsageError(f"--on pool: {pool.name} was started by another version of mlnb: {again}")
    host = pool.written.holder.get("host")
    if host not in (None, socket.gethostname()):
        raise UsageError(f"--on pool: {pool.name} is held on {host}, and takes runs of sessions there")


def _check(pool: Known, asked: Resources, placement: Placement, cpus: int) -> None:
    """Refuse what the pool does not have.

    Raises
    ------
    UsageError
        naming what it has.
    """
    has = pool.resources
    left = has.time if pool.written.ends is None else max(0, int(pool.written.ends - time.time()))
    for flag, given, most, words in (
        ("--nodes", asked.nodes, 1, "1 node"),
        ("--gpus", asked.gpus or 0, has.gpus or 0, f"{has.gpus} GPU{'s' * (has.gpus != 1)}"),
        ("--cpus", asked.ranks * cpus if asked.cpus else 0, pool.cores, f"{pool.cores} cores"),
        ("--memory", asked.memory or 0, has.memory, format_size(has.memory or 0)),
        ("--time", asked.time or 0, left, f"{format_time(left or 0)} left"),
    ):
        if most is not None and given > most:
            said = {"--memory": format_size, "--time": format_time}.get(flag, str)(given)
            raise UsageError(f"{flag} {said}: pool {pool.name} has {words}; --on {pool.asked['on']} takes it as a job")
    for flag, other in (
        ("--partition", placement.partition),
        ("--account", placement.account),
        ("--qos", placement.qos),
        ("--image", placement.image),
        ("--gpu-type", asked.gpu_type),
        ("--gpu-memory", asked.gpu_memory),
        ("--gpu-capability", asked.gpu_capability),
    ):
        if other is not None:
            raise UsageError(
                f"{flag} {other}: pool {pool.name} is what it is; --on {pool.asked['on']} takes it as a job"
            )


def _has(pool: Known) -> str:
    """What a pool has, in words."""
    has = pool.resources
    gpus = f"{has.gpus} GPU{'s' * (has.gpus > 1)}, " if has.gpus else ""
    return f"{gpus}{pool.cores} core{'s' * (pool.cores > 1)}"


def _ask(pool: Known, request: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """What the pool's holder answers.

    Raises
    ------
    SubmissionUnknown
        if it has heard it, and does not.
    MlnbError
        if it is not there.
    """
    try:
        return send_request(Path(str(pool.written.holder.get("socket", ""))), request, patience)
    except OSError as error:
        kind = (
            SubmissionUnknown
            if isinstance(error, (TimeoutError, ConnectionAbortedError, ConnectionResetError))
            else MlnbError
        )
        raise kind(f"pool {pool.name} does not answer ({error}); it is {pool.state}: {pool.reason}") from None


def _status(run: RunDir, pool: Known, *, handed: bool) -> Status:
    """What is known of one run."""
    guest = pool.written.runs.get(run.path.name)
    over = guest is not None and guest["state"] == "over" and guest["attempt"] >= len(run.attempts())
    if over and guest is not None:
        return Status(False, reason=str(guest["reason"]))
    if guest is not None and guest["state"] == "interrupted" and pool.live:
        back = "goes on from its newest checkpoint when the pool is back"
        return Status(True, "pending", f"{guest['reason']}; {back}{f' ({pool.reason})' if pool.reason else ''}")
    if beats(run):
        waits = str(guest["reason"]) if guest is not None and guest["state"] == "sent" else ""
        return Status(True, "pending", waits) if waits else Status(True, "running")
    if not pool.asked:
        return Status(False, reason="the folder of its pool is gone")
    if not pool.live:
        return _left(pool, guest)
    if guest is None:
        silent = time.time() - pool.written.written > folder.BEAT * 2
        if handed and not silent:
            return Status(False, reason="its pool does not know it")
        return Status(None, "pending", "being submitted")
    if guest["state"] == "sent":
        return Status(True, "starting", "its node program is being started")
    words = str(guest["reason"]) or f"waits for pool {pool.name}"
    return Status(True, "pending", words if pool.state == "running" else f"{words}, which {pool.reason}")


def _left(pool: Known, guest: Mapping[str, Any] | None) -> Status:
    """A silent run of a pool without a holder: its job may be there still."""
    reason = f"its pool has ended: {pool.reason}"
    was_started = guest is not None and guest["state"] == "sent"
    if not was_started or (pool.written.state == "ended" and not pool.written.left):
        orphan_cleanup.tidy(pool)
        return Status(False, reason=reason)
    from mlnb.targets.pool.allocation import system_of

    seen = queue_listing.listing(system_of(pool))
    if seen.error:
        return Status(None, "running", seen.error)
    if any(job in seen.jobs and seen.jobs[job].state == "running" for job in pool.written.jobs):
        return Status(True, "running")
    return Status(False, reason=reason)
