"""Explains in plain English why SLURM keeps a job waiting, and what would start it sooner.

The codes: https://slurm.schedmd.com/job_reason_codes.html, squeue(1) of SLURM 22.05, and the output of 22.05.8.
Ends of jobs are in :mod:`mlnb.targets.batch.systems.slurm.ends`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mlnb.targets.batch.systems.slurm.limit_reasons import explain_limit
from mlnb.targets.batch.systems.slurm.nodes import Node, Partition
from mlnb.targets.batch.systems.slurm.text import split_list
from mlnb.task import Resources
from mlnb.units import format_time


class Explanation(NamedTuple):
    """Why a job waits or how it ended: cause and reason of a :class:`~mlnb.targets.batch.queued_job.QueuedJob`."""

    cause: str
    reason: str


@dataclass(frozen=True)
class _WaitingJob:
    """What SLURM reports of the job to explain: the arguments of :func:`explain_wait`."""

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

    def candidates(self) -> list[Node]:
        """The nodes of its partitions, as far as they are known."""
        named = set(split_list(self.partition or ""))
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
) -> Explanation:
    """Why a job waits, from the reason code that SLURM gives. More arguments make the explanation more precise.

    Parameters
    ----------
    code
        the reason code as squeue or scontrol prints it; an unknown one is shown as it is.
    resources, partition
        what the job requests, and where.
    job
        its id, for commands in the explanation.
    start
        when SLURM will start it, or before which it will not; seconds since the epoch.
    restarts
        how often it was queued again.
    nodes, partitions
        the cluster, by name.
    """
    waiting = _WaitingJob(resources, partition, job, start, restarts, nodes or {}, partitions or {})
    # "_" stands for spaces in what scontrol prints; squeue's %R puts parentheses around it
    plain = re.sub(r"^\((.*)\)$", r"\1", code.strip().replace("_", " "))
    explanation = _explain_code(plain, waiting)
    if explanation.cause in MAY_BE_IMPOSSIBLE and (reason := _too_much(waiting)):
        return Explanation("impossible", f"Will never start: {reason}")
    return explanation


MAY_BE_IMPOSSIBLE = frozenset({"resources", "priority", "limit", "down", "other", "impossible"})
"""Causes for which the cluster's limits may tell that the job can never start, though SLURM's code does not."""


def _explain_code(code: str, job: _WaitingJob) -> Explanation:
    explainer = _EXPLAINERS.get(code)
    if explainer is not None:
        return explainer(job)
    for prefix, family in _FAMILIES.items():
        if code.startswith(prefix):
            return family(code, job)
    if explanation := explain_limit(code, job.resources):
        return Explanation(*explanation)
    return Explanation("other", f"SLURM says {code}")


def _too_much(job: _WaitingJob) -> str:
    """Which part of the request the partition can never satisfy, and the most that it can; else an empty text."""
    requested, limits = job.resources, job.limits
    if requested is None:
        return ""
    if limits.max_time is not None and (requested.time or 0) > limits.max_time:
        given = format_time(requested.time or 0)
        allowed = format_time(limits.max_time)
        return f"it asks for {given}, {job.queue} allows {allowed}; try --time {_flag(limits.max_time)}"
    if (most := limits.max_nodes) is not None and requested.nodes > most:
        return f"it asks for {requested.nodes} nodes, {job.queue} allows {most}; try --nodes {most}"
    candidates, gpus_wanted = job.candidates(), requested.gpus or 0
    gpus = max((node.gpu_count for node in candidates), default=0)
    if not candidates or gpus_wanted <= gpus:
        return ""
    asks = f"it asks for {_gpus(gpus_wanted)} per node, nodes of {job.queue} have"
    return f"{asks} at most {gpus}; try --gpus {gpus}" if gpus else f"{asks} none; choose another --partition"


def _new(job: _WaitingJob) -> Explanation:
    text = "Waiting for SLURM to consider it"
    return Explanation("requeue", f"Queued again. {text}") if job.restarts else Explanation("other", text)


def _resources(job: _WaitingJob) -> Explanation:
    """The job is next, and what it asks for is in use."""
    requested = job.resources
    text = "Waiting for cores and memory: all suitable nodes are in use"
    if requested and requested.gpus:
        text = f"Waiting for {'a GPU' if requested.gpus == 1 else 'GPUs'}: all suitable ones are in use"
    if requested is None or (requested.gpus or 0) < 2:
        return Explanation("resources", text)
    free = max((node.gpus_free for node in job.candidates() if node.usable), default=0)
    if requested.nodes == 1 and 0 < free < (requested.gpus or 0):
        return Explanation("resources", f"{text}; {_gpus(free)} on one node {_are(free)} free now: try --gpus {free}")
    return Explanation("resources", f"{text}; --gpus 1 may start sooner")


def _priority(job: _WaitingJob) -> Explanation:
    """Others come first; the backfill scheduler starts short jobs in the gaps before them."""
    text = "Waiting for jobs of higher priority"
    given = job.resources.time if job.resources else None
    if given is None:
        return Explanation("priority", f"{text}; a short --time, like 30m, may fit into a gap before them")
    return Explanation("priority", f"{text}; a --time under {format_time(given)} may fit into a gap before them")


def _begin(job: _WaitingJob) -> Explanation:
    until = "" if job.start is None else f" until {_clock(job.start)}"
    if job.restarts:
        return Explanation("requeue", f"Queued again; SLURM delays it{until}")
    return Explanation("begin", f"Waiting{until or ' for the time'}, before which it is not to start")


def _time_limit(job: _WaitingJob) -> Explanation:
    return Explanation(
        "impossible", f"Will never start: it asks for more time than {job.queue} allows; try a shorter --time"
    )


def _node_limit(job: _WaitingJob) -> Explanation:
    requested, limits = job.resources, job.limits
    if requested and limits.name and (limits.max_nodes is None or requested.nodes <= limits.max_nodes):
        # the same reason stands for nodes that are down (job_reason_codes.html)
        return Explanation("down", f"Waiting for nodes of {job.queue} that are down or drained")
    return Explanation(
        "impossible", f"It asks for more nodes than {job.queue} allows, or than are up; try fewer --nodes"
    )


def _not_available(code: str, job: _WaitingJob) -> Explanation:
    lower = code.lower()
    nodes = re.search(r"UnavailableNodes:\s*(\S+)", code)
    if "maintenance" in lower:
        text = "Maintenance begins before it could be done; a shorter --time may fit before it"
        return Explanation("down", text)
    if nodes:
        return Explanation("down", f"Waiting for nodes that are down, drained or don't answer: {nodes[1]}")
    if "reserved" in lower:
        return Explanation("resources", f"{_resources(job).reason}, or reserved for other jobs")
    return Explanation("down", "Waiting for nodes that are down, drained, reserved or in use")


def _down(_: str, job: _WaitingJob) -> Explanation:
    return Explanation(
        "down", f"The suitable nodes of {job.queue} are down, drained or reserved for jobs of higher priority"
    )


def _launch_failed(_: str, job: _WaitingJob) -> Explanation:
    text = "Held: SLURM could not start it on its node; if it fails again, tell the administrators"
    return Explanation("hold", f"{text} (scontrol release {job.job} lets it try again)")


def _held(text: str) -> _Explainer:
    return lambda job: Explanation("hold", f"{text}; scontrol release {job.job} releases it")


def _queue(state: str) -> _Explainer:
    return lambda job: Explanation(
        "down", f"{_capitalized(job.queue)} {state} and starts no jobs; choose another --partition"
    )


def _always(cause: str, text: str) -> _Explainer:
    return lambda _: Explanation(cause, text)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _flag(seconds: int) -> str:
    """``seconds`` as the value of ``--time``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _clock(timestamp: float) -> str:
    """A local time of day, with the date if it is another day."""
    then = time.localtime(timestamp)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


_Explainer = Callable[[_WaitingJob], Explanation]

_EXPLAINERS: dict[str, _Explainer] = {
    "": _new,
    "None": _new,
    "Resources": _resources,
    "Priority": _priority,
    "BeginTime": _begin,
    "Cleaning": _always("requeue", "Queued again; what its last attempt left is being cleaned up"),
    "Prolog": _always("other", "Its node is being prepared"),
    "Dependency": _always("dependency", "Waiting for another job to end"),
    "DependencyNeverSatisfied": _always("impossible", "Will never start: it depends on another job, which failed"),
    "PartitionTimeLimit": _time_limit,
    "PartitionNodeLimit": _node_limit,
    "PartitionConfig": lambda job: Explanation("impossible", f"It asks for what {job.queue} does not allow"),
    "PartitionDown": _queue("is down"),
    "PartitionInactive": _queue("is inactive"),
    "NodeDown": _always("down", "Waiting for a node that is down"),
    "JobHeldUser": _held("Held by you or a coordinator of your account"),
    "JobHeldAdmin": _always("hold", "Held by an administrator, who has to release it"),
    "JobHoldMaxRequeue": _held("Held, since it was queued again as often as SLURM allows"),
    "BadConstraints": _always(
        "impossible", "Will never start: no node has all that it asks for; ask for less, or for other GPUs"
    ),
    "Constraints": _always("resources", "Waiting for nodes with the features that it asks for"),
    "MaxMemPerLimit": _always("impossible", "It asks for more memory than a job may have here; try less --memory"),
    "Licenses": _always("resources", "Waiting for a licence that others use"),
    "Reservation": _always("begin", "Waiting for its reservation to begin"),
    "ReservationDeleted": _always("impossible", "Will never start: the reservation that it asks for is gone"),
    "InvalidAccount": _always("impossible", "Will never start: SLURM doesn't know the account that it names"),
    "AccountNotAllowed": lambda job: Explanation("impossible", f"Will never start: its account can't use {job.queue}"),
    "InvalidQOS": _always("impossible", "Will never start: SLURM doesn't know the QOS that it names"),
    "QOSNotAllowed": _always("impossible", "Will never start: its account or partition may not use the QOS it names"),
    "DeadLine": _always("impossible", "Will never start: it can't be done by its deadline; a shorter --time might"),
    "JobArrayTaskLimit": _always("limit", "As many tasks of its array run as it allows at once"),
    "FedJobLock": _always("other", "Waiting for the clusters of the federation to agree who runs it"),
    "BurstBufferResources": _always("resources", "Waiting for space in the burst buffer"),
    "BurstBufferStageIn": _always("other", "Its data are being copied into the burst buffer"),
    "job requeued in held state": _held("Queued again, and held"),
}

_FAMILIES: dict[str, Callable[[str, _WaitingJob], Explanation]] = {
    "ReqNodeNotAvail": _not_available,
    "Nodes required for job are DOWN": _down,
    "launch failed": _launch_failed,
    "launch failure": _launch_failed,
}
