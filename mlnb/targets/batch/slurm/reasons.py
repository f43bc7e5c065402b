"""SLURM's reasons for letting a job wait, in plain words, with what would start it sooner.

The codes: https://slurm.schedmd.com/job_reason_codes.html, squeue(1) of SLURM 22.05, and what 22.05.8 was seen to say.
How jobs end is told in :mod:`mlnb.targets.batch.slurm.ends`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mlnb.targets.batch.slurm.limit_reasons import limit
from mlnb.targets.batch.slurm.nodes import Node, Partition
from mlnb.targets.batch.slurm.text import words
from mlnb.task import Resources
from mlnb.units import format_time


class Said(NamedTuple):
    """Why, as one of the causes of :class:`~mlnb.targets.batch.queued_job.QueuedJob`, and in words for a person."""

    cause: str
    reason: str


@dataclass(frozen=True)
class _Job:
    """What :func:`explain_wait` was told."""

    resources: Resources | None
    partition: str | None
    job: str
    start: float | None
    restarts: int
    nodes: Mapping[str, Node]
    partitions: Mapping[str, Partition]

    @property
    def queue(self) -> str:
        return f"partition {self.partition}" if self.partition else "its partition"

    @property
    def limits(self) -> Partition:
        return self.partitions.get(self.partition or "") or Partition("")

    def members(self) -> list[Node]:
        """The nodes of its partition (of one of them), as far as is known."""
        named = set(words(self.partition or ""))
        return [node for node in self.nodes.values() if not named or named.intersection(node.partitions)]


def explain_wait(
    code: str,
    resources: Resources | None = None,
    partition: str | None = None,
    *,
    job: str = "JOB",
    start: float | None = None,
    restarts: int = 0,
    nodes: Mapping[str, Node] | None = None,
    partitions: Mapping[str, Partition] | None = None,
) -> Said:
    """Why a job waits that SLURM gives ``code`` for. What isn't given, nothing is said of.

    Parameters
    ----------
    code
        the reason as squeue or scontrol writes it; one that isn't known is shown as it is.
    resources, partition
        what the job asked for, and where.
    job
        its id, for words that name a command.
    start
        when SLURM will start it, or before which it will not; seconds since the epoch.
    restarts
        how often it was queued again.
    nodes, partitions
        the cluster, by name.
    """
    known = _Job(resources, partition, job, start, restarts, nodes or {}, partitions or {})
    # "_" stands for spaces in what scontrol prints; squeue's %R puts parentheses around it
    plain = re.sub(r"^\((.*)\)$", r"\1", code.strip().replace("_", " "))
    said = _of(plain, known)
    if said.cause in COULD_BE_TOO_MUCH and (reason := _too_much(known)):
        return Said("impossible", f"will never start: {reason}")
    return said


COULD_BE_TOO_MUCH = frozenset({"resources", "priority", "limit", "down", "other", "impossible"})
"""Causes of which the cluster may tell more than SLURM's code does."""


def _of(code: str, job: _Job) -> Said:
    teller = _TELLERS.get(code)
    if teller is not None:
        return teller(job)
    for start, family in _FAMILIES.items():
        if code.startswith(start):
            return family(code, job)
    if said := limit(code, job.resources):
        return Said(*said)
    return Said("other", f"SLURM says {code}")


def _too_much(job: _Job) -> str:
    """What of the request the partition can never satisfy, and what it could; empty as far as is known."""
    asked, most = job.resources, job.limits
    if asked is None:
        return ""
    if most.max_time is not None and (asked.time or 0) > most.max_time:
        given = format_time(asked.time or 0)
        allowed = format_time(most.max_time)
        return f"asks for {given}, {job.queue} allows {allowed}; --time {_flag(most.max_time)} would fit"
    if most.max_nodes is not None and asked.nodes > most.max_nodes:
        return f"asks for {asked.nodes} nodes, {job.queue} allows {most.max_nodes}; --nodes {most.max_nodes} would fit"
    members, wanted = job.members(), asked.gpus or 0
    gpus = max((node.gpu_count for node in members), default=0)
    if not members or wanted <= gpus:
        return ""
    asks = f"asks for {_gpus(wanted)} a node, nodes of {job.queue} have"
    return f"{asks} at most {gpus}; --gpus {gpus} would fit" if gpus else f"{asks} none; choose another --partition"


def _new(job: _Job) -> Said:
    words = "waits for SLURM to look at it"
    return Said("requeue", f"was queued again, and {words}") if job.restarts else Said("other", words)


def _resources(job: _Job) -> Said:
    """It is next, and what it asks for is in use."""
    asked = job.resources
    words = "waits for free GPUs" if asked and asked.gpus else "waits for free cores and memory"
    words += ": others run on all that would fit"
    if asked is None or (asked.gpus or 0) < 2:
        return Said("resources", words)
    free = max((node.gpus_free for node in job.members() if node.usable), default=0)
    if asked.nodes == 1 and 0 < free < (asked.gpus or 0):
        return Said(
            "resources", f"{words}; {_gpus(free)} on one node {_are(free)} free now: --gpus {free} may start there"
        )
    return Said("resources", f"{words}; --gpus 1 would find a place sooner")


def _priority(job: _Job) -> Said:
    """Others come first; the backfill scheduler starts what is short in the gaps before them."""
    words = "higher-priority jobs are ahead of it"
    given = job.resources.time if job.resources else None
    if given is None:
        return Said("priority", f"{words}; with a short --time, like 30m, it may fit into a gap before them")
    return Said("priority", f"{words}; with a --time under {format_time(given)} it may fit into a gap before them")


def _begin(job: _Job) -> Said:
    until = "" if job.start is None else f" until {_clock(job.start)}"
    if job.restarts:
        return Said("requeue", f"was queued again; SLURM lets it wait{until} before it may start")
    return Said("begin", f"waits{until or ' for the time'} before which it was not to start")


def _time_limit(job: _Job) -> Said:
    return Said(
        "impossible", f"will never start: asks for more time than {job.queue} allows; a shorter --time would fit"
    )


def _node_limit(job: _Job) -> Said:
    asked, most = job.resources, job.limits
    if asked and most.name and (most.max_nodes is None or asked.nodes <= most.max_nodes):
        # the same reason stands for nodes that are down (job_reason_codes.html)
        return Said("down", f"waits for nodes of {job.queue} that are down or drained")
    return Said("impossible", f"asks for more nodes than {job.queue} allows, or than are up; fewer --nodes may fit")


def _not_available(code: str, job: _Job) -> Said:
    lower = code.lower()
    nodes = re.search(r"UnavailableNodes:\s*(\S+)", code)
    if "maintenance" in lower:
        words = "a maintenance begins before it would be done; a shorter --time may fit before it"
        return Said("down", words)
    if nodes:
        return Said("down", f"waits for nodes that are down, drained or don't answer: {nodes[1]}")
    if "reserved" in lower:
        return Said("resources", f"{_resources(job).reason}, or nodes are reserved for other jobs")
    return Said("down", "waits for nodes that are down, drained, reserved or in use")


def _down(_: str, job: _Job) -> Said:
    return Said("down", f"the nodes of {job.queue} that would fit are down, drained or kept for jobs that come first")


def _launch_failed(_: str, job: _Job) -> Said:
    words = "SLURM could not start it on its node, and holds it; if it fails again, tell the administrators"
    return Said("hold", f"{words} (scontrol release {job.job} lets it try again)")


def _held(words: str) -> _Teller:
    return lambda job: Said("hold", f"{words}; scontrol release {job.job} lets it go on")


def _queue(state: str) -> _Teller:
    return lambda job: Said("down", f"{job.queue} {state} and starts no jobs; choose another --partition")


def _always(cause: str, words: str) -> _Teller:
    return lambda _: Said(cause, words)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _flag(seconds: int) -> str:
    """``seconds`` as one writes them behind ``--time``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _clock(moment: float) -> str:
    """A point in time as people here say it: the date only if it is another day."""
    then = time.localtime(moment)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


_Teller = Callable[[_Job], Said]

_TELLERS: dict[str, _Teller] = {
    "": _new,
    "None": _new,
    "Resources": _resources,
    "Priority": _priority,
    "BeginTime": _begin,
    "Cleaning": _always("requeue", "was queued again, and what is left of the last attempt is being cleared away"),
    "Prolog": _always("other", "its node is being made ready"),
    "Dependency": _always("dependency", "waits for another job to end"),
    "DependencyNeverSatisfied": _always(
        "impossible", "will never start: it waits for another job to end well, and that one did not"
    ),
    "PartitionTimeLimit": _time_limit,
    "PartitionNodeLimit": _node_limit,
    "PartitionConfig": lambda job: Said("impossible", f"asks for what {job.queue} does not allow"),
    "PartitionDown": _queue("is down"),
    "PartitionInactive": _queue("is inactive"),
    "NodeDown": _always("down", "waits for a node that is down"),
    "JobHeldUser": _held("is held by you or by a coordinator of your account"),
    "JobHeldAdmin": _always("hold", "is held by an administrator, who has to release it"),
    "JobHoldMaxRequeue": _held("is held, since it was queued again as often as SLURM allows"),
    "BadConstraints": _always(
        "impossible", "will never start: no node has all that it asks for; ask for less, or for other GPUs"
    ),
    "Constraints": _always("resources", "waits for nodes with the features that it asks for"),
    "MaxMemPerLimit": _always("impossible", "asks for more memory than a job may have here; less --memory would fit"),
    "Licenses": _always("resources", "waits for a licence that others use"),
    "Reservation": _always("begin", "waits for its reservation to begin"),
    "ReservationDeleted": _always("impossible", "will never start: the reservation that it asks for is gone"),
    "InvalidAccount": _always("impossible", "will never start: SLURM doesn't know the account that it names"),
    "AccountNotAllowed": lambda job: Said("impossible", f"will never start: its account may not use {job.queue}"),
    "InvalidQOS": _always("impossible", "will never start: SLURM doesn't know the QOS that it names"),
    "QOSNotAllowed": _always("impossible", "will never start: its account or partition may not use the QOS it names"),
    "DeadLine": _always("impossible", "will never start: it can't be done by its deadline; a shorter --time might"),
    "JobArrayTaskLimit": _always("limit", "as many tasks of its array run as it allows at once"),
    "FedJobLock": _always("other", "waits for the clusters of the federation to agree who runs it"),
    "BurstBufferResources": _always("resources", "waits for room in the burst buffer"),
    "BurstBufferStageIn": _always("other", "its data are being brought into the burst buffer"),
    "job requeued in held state": _held("was queued again, and is held"),
}

_FAMILIES: dict[str, Callable[[str, _Job], Said]] = {
    "ReqNodeNotAvail": _not_available,
    "Nodes required for job are DOWN": _down,
    "launch failed": _launch_failed,
    "launch failure": _launch_failed,
}
