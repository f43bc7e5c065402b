"""Batch systems as targets: dask-jobqueue renders, submits and cancels; the job runs our node program.

What differs between systems is in :mod:`mlnb.targets.batch`, one small class each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import RunDir, read_json
from mlnb.targets import containers
from mlnb.targets.base import Offer, Placement, Status
from mlnb.targets.batch import queue_history, queue_listing
from mlnb.targets.batch import states as batch_states
from mlnb.targets.batch.job import Job, job_of
from mlnb.targets.batch.system import JobRequest, Submitted, System, plain
from mlnb.targets.config import limits, settings
from mlnb.targets.config.paths import runs_root
from mlnb.targets.mirror.base import Mirror
from mlnb.task import Resources, Task
from mlnb.units import format_size, format_time

_GRACE = 20.0
"""Seconds that a run has for its checkpoint when it is told to end, unless the target says otherwise."""

_PATIENCE = 30.0
_STEP = 0.25

SETTINGS = limits.SETTINGS | {
    *("jobqueue", "partition", "account", "cpus", "memory", "time", "directives", "setup"),
    *("python", "image", "container", "gpus", "requeue", "grace", "poll", "interface", "command-variables"),
}
"""Settings that targets of all batch systems have; a system's own are :attr:`System.own_settings`."""


class JobQueue:
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
        self._settings = system.settings
        self._interval = settings.seconds(self._settings, "poll") or queue_listing.INTERVAL
        self._states = batch_states.States(name, system, self._interval)
        self._submitted: dict[str, Submitted] = {}

    def prepare(self) -> None:
        """Import dask-jobqueue, which takes as long as all else of a submission several times over."""
        self.system.job_class()

    # what there is

    def resources(self) -> Mapping[str, Any]:
        """What the system has."""
        return self.system.resources()

    def offer(self, asked: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        limits.check(self.name, self._settings, asked)
        asked = limits.usual(self._settings, asked)
        session, section = self.system.session, self.system.section
        partition = placement.partition or self._settings.get("partition") or section.queue or session.partition
        partition = plain(str(partition), "--partition") if partition else None
        cpus, memory = settings.count(self._settings, "cpus"), settings.size(self._settings, "memory")
        seconds = settings.time(self._settings, "time") or session.time
        with_defaults = replace(
            asked, cpus=asked.cpus or cpus, memory=asked.memory or memory, time=asked.time or seconds
        )
        filled = self.system.fill(with_defaults, replace(placement, partition=partition))
        filled = replace(filled, resources=limits.within(self._settings, filled.resources, with_defaults))
        limits.check(self.name, self._settings, filled.resources)
        requeue = self._requeue(placement)
        image = placement.image or self._settings.get("image")
        container = self._container(image)
        account, qos = self._account(placement), self._qos(placement)
        words = [*self._words(filled.resources, asked), *filled.words]
        words += [f"{what} {name}" for what, name in (("account", account), ("QOS", qos)) if name]
        words += [" ".join(session.directives)] if session.directives else []
        words += session.words
        if container is not None:
            words += [f"in the image {container.image} ({container.engine.name})", *container.differences()]
        words.append(
            "queued again after preemption, a node's loss or the end of its time" if requeue else "never queued again"
        )
        past = queue_history.past(runs_root(), self.name, filled.partition)
        about = {
            "name": placement.name,
            "threads": filled.resources.cpus or 1,
            "grace": settings.seconds(self._settings, "grace") or _GRACE,
            "requeue": requeue,
            "partition": filled.partition,
            "account": account,
            "qos": qos,
            "directives": list(session.directives),
            "gpu_directives": list(filled.gpus),
            "chosen": [key for key in ("cpus", "memory", "time") if getattr(asked, key) is None],
            **({"image": image} if image else {}),
        }
        return Offer(filled.resources, (*words, *([past] if past else [])), about)

    def _account(self, placement: Placement) -> str | None:
        given = placement.account or self._settings.get("account")
        if given is None and self.system.section.account is None:
            given = self.system.session.account
        return plain(str(given), "account") if given else None

    def _qos(self, placement: Placement) -> str | None:
        if placement.qos and not self.system.qualities:
            raise UsageError(
                f"--qos {placement.qos}: {self.system.display_name} has none; directives: of the target may"
            )
        given = placement.qos or self.system.session.qos
        return plain(given, "--qos") if given else None

    def _requeue(self, placement: Placement) -> bool:
        if placement.requeue and not self.system.requeues:
            raise UsageError(
                f"--requeue: {self.system.display_name} can't have a job queued again; --resume goes on with a run"
            )
        usual = settings.flag(self._settings, "requeue") is not False
        return self.system.requeues and (usual if placement.requeue is None else placement.requeue)

    def _words(self, all_: Resources, asked: Resources) -> list[str]:
        ranks = f"{all_.ranks} rank{'s' * (all_.ranks > 1)} × {all_.cpus} core{'s' * ((all_.cpus or 1) > 1)}"
        nodes = f"{all_.nodes} nodes, on each " if all_.nodes > 1 else ""
        gpus = f", {all_.gpus} GPU{'s' * (all_.gpus > 1)}" if all_.gpus else ""
        memory = f", {format_size(all_.memory)}" if all_.memory else ""
        chosen = [
            word
            for word, given, now in (
                ("cores", asked.cpus, all_.cpus),
                ("memory", asked.memory, all_.memory),
                ("time", asked.time, all_.time),
            )
            if given is None and now is not None
        ]
        said = [f"{nodes}{ranks}{gpus}{memory}"]
        if all_.time is not None:
            said.append(f"ends after {format_time(all_.time)}")
        if chosen:
            said.append(f"{', '.join(chosen)} chosen by the target's defaults")
        return said

    def preview(self, run: RunDir, offer: Offer) -> str:
        """The job as it would be submitted."""
        job = self.job(run, offer.resources, {"id": run.path.name, **offer.about}, {}, attempt=1)
        return job.text()

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        about = read_json(run.run) or {}
        attempt = max(1, len(run.attempts()))
        resources = Task.from_json(read_json(run.task) or {}).resources
        job = self.job(run, resources, about, env, attempt=attempt)
        number, cluster = self._submitted[run.path.name] = job.submit()
        known = time.time()  # a look at the queue from before may not have it
        queue_listing.forget(self.system)
        return {
            "target": self.name,
            "kind": self.system.kind,
            "job": number,
            **({"cluster": cluster} if cluster else {}),
            "submitted": known,
            "attempt": attempt,
        }

    def job(
        self, run: RunDir, resources: Resources, about: Mapping[str, Any], env: Mapping[str, str], *, attempt: int
    ) -> Job:
        """The job of attempt ``attempt``, to be read or submitted; ``about`` is what ``run.json`` holds."""
        request = JobRequest(
            run=str(about["id"]),
            name=str(about["name"]),
            resources=resources,
            partition=about.get("partition"),
            account=about["account"] if "account" in about else self._account(Placement()),
            qos=about.get("qos"),
            requeue=bool(about.get("requeue", True)),
            gpus=tuple(about.get("gpu_directives", ())),
            extra=(*about.get("directives", ()), *settings.words(self._settings, "directives")),
            usual=self.system.section.directives,
        )
        return job_of(self.system, request, run, attempt, env, self._container(about.get("image")))

    def _container(self, image: str | None) -> containers.Contained | None:
        return containers.for_target(str(image), self._settings) if image else None

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        return self._states.of(runs)

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. The node program ends by itself; what does not, is taken down."""
        found = self._job_of(run)
        if found is None:
            return True
        job, system = found.job, self.system.at(found.cluster)
        grace = float((read_json(run.run) or {}).get("grace", _GRACE))
        end = time.monotonic() + grace
        while batch_states.beats(run) and time.monotonic() < end:  # it looks for cancel.json and makes its checkpoint
            time.sleep(_STEP)
        told, end = time.time(), time.monotonic() + max(_PATIENCE, 3 * self._interval)
        system.cancel(job)
        queue_listing.forget(system)
        while time.monotonic() < end:
            if batch_states.accounted(run):
                return True
            seen = queue_listing.listing(system, self._interval, after=told)
            there = seen.jobs.get(job)
            # what is left of one that is ending, as an epilog, is nothing of the run's
            if seen.heard >= told and not seen.error and (there is None or there.state == "ended" or there.ending):
                return True
            time.sleep(_STEP)
        return False

    def _job_of(self, run: RunDir) -> Submitted | None:
        """The job of a run, also of one that another session is submitting at this moment; ``None`` if it has none."""
        end = time.monotonic() + _PATIENCE
        while True:
            handle = read_json(run.handle) or {}
            if not handle and run.path.name in self._submitted:
                return self._submitted[run.path.name]
            if not handle:
                seen = _look(self.system)
                if seen.error:
                    raise MlnbError(seen.error)
                handle = self._states.adopt(run, seen.jobs)
            if handle:
                return Submitted(str(handle["job"]), str(handle.get("cluster", "")))
            young = time.time() - float((read_json(run.run) or {}).get("submitted", 0.0)) < batch_states.UNSUBMITTED
            if not young or time.monotonic() > end:
                return None
            time.sleep(_STEP * 2)


@dataclass(frozen=True)
class BatchKind:
    """The kind of target that one batch system is."""

    system: type[System]

    @property
    def kind(self) -> str:
        """See :class:`mlnb.targets.base.TargetKind`."""
        return self.system.kind

    @property
    def settings(self) -> frozenset[str]:
        """See :class:`mlnb.targets.base.TargetKind`."""
        return SETTINGS | self.system.own_settings

    def __call__(self, name: str, settings: Mapping[str, Any], /) -> JobQueue:
        """A target of this kind."""
        return JobQueue(name, self.system(settings))


def _look(system: System) -> queue_listing.Listing:
    """The queue as it is now."""
    queue_listing.forget(system)
    return queue_listing.listing(system, 0.0)
