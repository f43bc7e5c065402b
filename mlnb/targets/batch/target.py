"""A batch system as a target: each run is a job, which runs the node program on each of its nodes.

The differences between systems are in their classes: see :mod:`mlnb.targets.batch.system`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlnb.errors import UsageError
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import NodeSettings, RunInfo
from mlnb.targets import containers
from mlnb.targets.base import Offer, Placement, Status, check_options
from mlnb.targets.batch.options import OPTIONS
from mlnb.targets.batch.placement import BatchPlacement
from mlnb.targets.batch.queue import history as queue_history
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue import states
from mlnb.targets.batch.queue.cancelling import Canceller
from mlnb.targets.batch.request import JobRequest, SubmittedJob, directive_word
from mlnb.targets.batch.submission import job_array
from mlnb.targets.batch.submission.job import Job, make_job
from mlnb.targets.batch.submission.job_array import JobArray
from mlnb.targets.batch.system import System
from mlnb.targets.config import limits, settings
from mlnb.targets.config.options import TargetOption
from mlnb.targets.many import submit_in_groups, submit_one_by_one
from mlnb.targets.mirror.base import Mirror
from mlnb.task import Resources, Task
from mlnb.units import format_size, format_time
from mlnb.workspace import Workspace

_GRACE = 20.0
"""Seconds that a run has to write its checkpoint when it is told to end, unless the target's ``grace`` differs."""

SETTINGS = limits.SETTINGS | {
    *("jobqueue", "partition", "account", "cpus", "memory", "time", "directives", "setup"),
    *("python", "image", "container", "gpus", "requeue", "grace", "poll", "interface", "command-variables"),
}
"""Settings that targets of all batch systems have; a system's own are :attr:`System.own_settings`."""


class BatchTarget:
    """Runs as jobs of a batch system.

    Parameters
    ----------
    name
        as it is chosen with ``--on``.
    system
        which batch system.
    """

    mirror: Mirror | None = None

    def __init__(self, name: str, system: System) -> None:
        self.name = name
        self.system = system
        self.workspace = system.workspace
        self._settings = system.settings
        self._interval = settings.seconds(self._settings, "poll") or queue_listing.INTERVAL
        self._states = states.States(name, system, self._interval)
        self._submitted: dict[str, SubmittedJob] = {}

    @property
    def options(self) -> Sequence[TargetOption]:
        """See :class:`mlnb.targets.base.Target`."""
        return (*OPTIONS, *self.system.options)

    def prepare(self) -> None:
        """Import dask-jobqueue, which takes several times as long as the rest of a submission."""
        self.system.prepare()

    # offers

    def resources(self) -> Mapping[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        return self.system.resources()

    def offer(self, requested: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        check_options(self, placement)
        given = placement.options
        limits.check(self.name, self._settings, requested)
        requested = limits.default_gpus(self._settings, requested)
        session, section = self.system.session_defaults, self.system.section
        partition = given.get("partition") or self._settings.get("partition") or section.queue or session.partition
        partition = directive_word(str(partition), "--partition") if partition else None
        cpus, memory = settings.count(self._settings, "cpus"), settings.size(self._settings, "memory")
        seconds = settings.time(self._settings, "time") or session.time
        with_defaults = replace(
            requested, cpus=requested.cpus or cpus, memory=requested.memory or memory, time=requested.time or seconds
        )
        resolved = self.system.resolve(with_defaults, partition)
        resolved = replace(resolved, resources=limits.cap_defaults(self._settings, resolved.resources, with_defaults))
        limits.check(self.name, self._settings, resolved.resources)
        requeue = self._requeue(given.get("requeue"))
        image = given.get("image") or self._settings.get("image")
        container = self._container(image)
        account, qos = self._account(given.get("account")), self._qos(given.get("qos"))
        lines = [*_summary(resolved.resources, requested), *resolved.summary_lines]
        lines += [f"{label} {name}" for label, name in (("account", account), ("QOS", qos)) if name]
        lines += [" ".join(session.directives)] if session.directives else []
        lines += session.summary_lines
        if container is not None:
            lines += [f"in the image {container.image} ({container.engine.name})", *container.differences()]
        lines.append(
            "queued again after preemption, loss of a node or its time limit" if requeue else "never queued again"
        )
        history = queue_history.queue_times_sentence(self.workspace.root, self.name, resolved.partition)
        node = NodeSettings(
            grace=settings.seconds(self._settings, "grace") or _GRACE,
            threads=resolved.resources.cpus or 1,
            requeue=requeue,
            chosen=tuple(key for key in ("cpus", "memory", "time") if getattr(requested, key) is None),
        )
        chosen = BatchPlacement(
            name=placement.name,
            partition=resolved.partition,
            account=account,
            qos=qos,
            image=image or None,
            directives=tuple(session.directives),
            gpu_directives=tuple(resolved.gpu_directives),
            options=dict(given),
        )
        return Offer(resolved.resources, (*lines, *([history] if history else [])), node, chosen.to_json())

    def _account(self, given: str | None) -> str | None:
        account = given or self._settings.get("account")
        if account is None and self.system.section.account is None:
            account = self.system.session_defaults.account
        return directive_word(str(account), "account") if account else None

    def _qos(self, given: str | None) -> str | None:
        qos = given or self.system.session_defaults.qos
        return directive_word(qos, "--qos") if qos else None

    def _requeue(self, given: bool | None) -> bool:
        if given and not self.system.requeues:
            raise UsageError(
                f"--requeue: {self.system.display_name} can't queue a job again. --resume continues a run."
            )
        default = settings.flag(self._settings, "requeue") is not False
        return self.system.requeues and (default if given is None else given)

    def preview(self, run: RunDir, offer: Offer) -> str:
        """The job as it would be submitted."""
        info = RunInfo(run.path.name, str(offer.placement.get("name")), node=offer.node, placement=offer.placement)
        job = self.job(run, offer.resources, info, {}, attempt=1)
        return job.text()

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        job = self._next_job(run, env)
        return self._handles([job], [job.submit()])[0]

    def _next_job(self, run: RunDir, env: Mapping[str, str]) -> Job:
        """The job of a run's newest attempt, which has none so far."""
        resources = Task.from_json(read_json(run.task) or {}).resources
        return self.job(run, resources, RunInfo.read(run), env, attempt=max(1, len(run.attempts())))

    def _handles(self, jobs: Sequence[Job], submitted: Sequence[SubmittedJob]) -> list[dict[str, Any]]:
        """How to find jobs again that were submitted at this moment."""
        now = time.time()  # a listing of the queue from before may not have them
        self._submitted |= {job.run.path.name: accepted for job, accepted in zip(jobs, submitted, strict=True)}
        queue_listing.expire(self.system)
        return [
            {
                "target": self.name,
                "kind": self.system.kind,
                "job": accepted.job,
                **({"cluster": accepted.cluster} if accepted.cluster else {}),
                "submitted": now,
                "attempt": job.attempt,
            }
            for job, accepted in zip(jobs, submitted, strict=True)
        ]

    def job(self, run: RunDir, resources: Resources, info: RunInfo, env: Mapping[str, str], *, attempt: int) -> Job:
        """The job of attempt ``attempt``, to be read or submitted."""
        chosen = BatchPlacement.from_json(info.placement)
        request = JobRequest(
            run=info.id,
            name=info.name,
            resources=resources,
            partition=chosen.partition,
            account=chosen.account,
            qos=chosen.qos,
            requeue=info.node.requeue,
            gpu_directives=chosen.gpu_directives,
            site_directives=(*chosen.directives, *settings.lines(self._settings, "directives")),
            default_directives=self.system.section.directives,
            options=chosen.options,
        )
        return make_job(self.system, request, run, attempt, env, self._container(chosen.image))

    def _container(self, image: str | None) -> containers.Contained | None:
        return containers.for_target(str(image), self._settings, self.workspace) if image else None

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """See :class:`mlnb.targets.base.Target`. Jobs of equal requests are one array, where the system has arrays."""
        syntax = self.system.array
        max_tasks = self.system.max_array_tasks()
        if syntax is None or max_tasks < 2:
            return submit_one_by_one(self, runs, envs)
        all_jobs = [self._next_job(run, env) for run, env in zip(runs, envs, strict=True)]

        def submit(group: Sequence[int]) -> list[dict[str, Any]]:
            jobs = [all_jobs[index] for index in group]
            return self._handles(jobs, JobArray(jobs, syntax).submit() if len(jobs) > 1 else [jobs[0].submit()])

        return submit_in_groups(self, runs, job_array.group(all_jobs, max_tasks), submit)

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        return self._states.of(runs)

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. The node program ends by itself; if not, the system ends the job."""
        return self.cancel_many([run])[0]

    def cancel_many(self, runs: Sequence[RunDir]) -> list[bool]:
        """See :class:`mlnb.targets.base.Target`."""
        return Canceller(self.system, self._interval, self._states, self._submitted).cancel(runs)


@dataclass(frozen=True)
class BatchKind:
    """The kind of target that one batch system is."""

    system: type[System]

    @property
    def kind(self) -> str:
        """See :class:`mlnb.targets.base.TargetKind`."""
        return self.system.kind

    @property
    def options(self) -> Sequence[TargetOption]:
        """See :class:`mlnb.targets.base.TargetKind`."""
        return (*OPTIONS, *self.system.options)

    @property
    def settings(self) -> frozenset[str]:
        """See :class:`mlnb.targets.base.TargetKind`."""
        return SETTINGS | self.system.own_settings

    def __call__(self, name: str, settings: Mapping[str, Any], workspace: Workspace, /) -> BatchTarget:
        """A target of this kind."""
        return BatchTarget(name, self.system(settings, workspace))


def _summary(resources: Resources, requested: Resources) -> list[str]:
    """Lines of the plan: the resources of a run, and which of them the target chose."""
    ranks = f"{resources.ranks} rank{'s' * (resources.ranks > 1)}"
    cores = f"{resources.cpus} core{'s' * ((resources.cpus or 1) > 1)}"
    nodes = f"{resources.nodes} nodes, on each " if resources.nodes > 1 else ""
    gpus = f", {resources.gpus} GPU{'s' * (resources.gpus > 1)}" if resources.gpus else ""
    memory = f", {format_size(resources.memory)} memory" if resources.memory else ""
    lines = [f"{nodes}{ranks} × {cores}{gpus}{memory}"]
    if resources.time is not None:
        lines.append(f"time limit {format_time(resources.time)}")
    chosen = [
        name
        for name, given, now in (
            ("cores", requested.cpus, resources.cpus),
            ("memory", requested.memory, resources.memory),
            ("time", requested.time, resources.time),
        )
        if given is None and now is not None
    ]
    if chosen:
        lines.append(f"{', '.join(chosen)} chosen by the target's defaults")
    return lines
