"""Batch systems as targets: dask-jobqueue renders, submits and cancels; the job runs our node program.

What differs between systems is in :mod:`mlnb.targets.systems`, one small class each.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json, write_json
from mlnb.targets import containers, limits, queue, settings, waits
from mlnb.targets.base import Offer, Placement, Status
from mlnb.targets.batch_job import Job, job_of
from mlnb.targets.config import runs_root
from mlnb.targets.systems.base import Ask, Queued, System, plain
from mlnb.task import Resources, Task
from mlnb.units import say_size, say_time

FRESH = 15.0
"""Seconds for which a heartbeat says that a job runs, so that nobody need be asked."""

_PATIENCE = 30.0
_STEP = 0.25


class JobQueue:
    """Runs as jobs of a batch system.

    Parameters
    ----------
    name
        as it is chosen with ``--on``.
    system
        which batch system.
    """

    prewarm = False

    def __init__(self, name: str, system: System) -> None:
        self.name = name
        self.system = system
        self._settings = system.settings
        self._interval = float(settings.time(self._settings, "poll") or queue.INTERVAL)
        self._submitted: dict[str, str] = {}

    # what there is

    def resources(self) -> Mapping[str, Any]:
        """What the system has."""
        return self.system.resources()

    def offer(self, asked: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        limits.check(self.name, self._settings, asked)
        partition = placement.partition or self._settings.get("partition")
        partition = plain(str(partition), "--partition") if partition else None
        with_defaults = replace(
            asked,
            cpus=asked.cpus or settings.count(self._settings, "cpus"),
            memory=asked.memory or settings.size(self._settings, "memory"),
            time=asked.time or settings.time(self._settings, "time"),
        )
        filled = self.system.fill(with_defaults, replace(placement, partition=partition))
        limits.check(self.name, self._settings, filled.resources)
        requeue = bool(self._settings.get("requeue", True)) if placement.requeue is None else placement.requeue
        image = placement.image or self._settings.get("image")
        container = self._container(image)
        words = [*self._words(filled.resources, asked), *filled.words]
        if container is not None:
            words += [f"in the image {container.image} ({container.engine.name})", *container.differences()]
        words.append(
            "queued again after preemption, a node's loss or the end of its time" if requeue else "never queued again"
        )
        past = waits.past(runs_root(), self.name, filled.partition)
        about = {
            "name": placement.name,
            "threads": filled.resources.cpus or 1,
            "grace": float(self._settings.get("grace", 20.0)),
            "requeue": requeue,
            "partition": filled.partition,
            "gpu_directives": list(filled.gpus),
            **({"image": image} if image else {}),
        }
        return Offer(filled.resources, (*words, *([past] if past else [])), about)

    def _words(self, all_: Resources, asked: Resources) -> list[str]:
        ranks = f"{all_.ranks} rank{'s' * (all_.ranks > 1)} × {all_.cpus} core{'s' * ((all_.cpus or 1) > 1)}"
        nodes = f"{all_.nodes} nodes, on each " if all_.nodes > 1 else ""
        gpus = f", {all_.gpus} GPU{'s' * (all_.gpus > 1)}" if all_.gpus else ""
        memory = f", {say_size(all_.memory)}" if all_.memory else ""
        chosen = [
            word
            for word, given in (("cores", asked.cpus), ("memory", asked.memory), ("time", asked.time))
            if given is None
        ]
        said = [f"{nodes}{ranks}{gpus}{memory}"]
        if all_.time is not None:
            said.append(f"ends after {say_time(all_.time)}")
        if chosen:
            said.append(f"{', '.join(chosen)} chosen by the target's defaults")
        return said

    def preview(self, run: RunDir, offer: Offer) -> str:
        """The job as it would be submitted."""
        job = self._job(run, offer.resources, {"id": run.path.name, **offer.about}, {}, attempt=1)
        return job.text()

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        about = read_json(run.run) or {}
        attempt = max(1, len(run.attempts()))
        resources = Task.from_json(read_json(run.task) or {}).resources
        job = self._job(run, resources, about, env, attempt=attempt)
        began = time.time()
        number = job.submit()
        self._submitted[run.path.name] = number
        queue.forget(self.system)
        return {"target": self.name, "kind": self.system.kind, "job": number, "submitted": began, "attempt": attempt}

    def _job(
        self, run: RunDir, resources: Resources, about: Mapping[str, Any], env: Mapping[str, str], *, attempt: int
    ) -> Job:
        ask = Ask(
            run=str(about["id"]),
            name=str(about["name"]),
            resources=resources,
            partition=about.get("partition"),
            account=plain(str(self._settings["account"]), "account") if self._settings.get("account") else None,
            requeue=bool(about.get("requeue", True)),
            gpus=tuple(about.get("gpu_directives", ())),
            extra=settings.words(self._settings, "directives"),
        )
        return job_of(self.system, ask, run, attempt, env, self._container(about.get("image")))

    def _container(self, image: str | None) -> containers.Contained | None:
        return containers.chosen(str(image), self._settings) if image else None

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`. Asks nobody about runs whose own heartbeats are fresh."""
        found: dict[int, Status] = {}
        open_: dict[int, dict[str, Any]] = {}
        for index, run in enumerate(runs):
            handle = read_json(run.handle) or {}
            known = self._known(run, handle)
            if known is not None:
                found[index] = known
            else:
                open_[index] = handle
        if open_:
            newest = max(float(handle.get("submitted", 0.0)) for handle in open_.values())
            seen = queue.listing(self.system, self._interval, after=newest)
            missing = {}
            for index, handle in open_.items():
                job = self._find(runs[index], handle, seen.jobs)
                status = self._status(runs[index], handle, job, seen)
                if status is None:
                    missing[index] = handle
                else:
                    found[index] = status
            found |= self._gone(runs, missing)
        return [found[index] for index in range(len(runs))]

    def _known(self, run: RunDir, handle: Mapping[str, Any]) -> Status | None:
        """What the run directory says by itself."""
        ended = read_json(run.ended)
        if ended is not None and ended.get("job") == handle.get("job"):
            return Status(False, str(ended["state"]), str(ended["reason"]))
        if _beats(run):
            return Status(True, "running")
        return None

    def _find(self, run: RunDir, handle: Mapping[str, Any], jobs: Mapping[str, Queued]) -> Queued | None:
        if handle:
            return jobs.get(str(handle["job"]))
        ours = f"mlnb:{run.path.name}"  # submitted by a session that died before it could note the job
        return next((job for job in jobs.values() if job.about.get("comment") == ours), None)

    def _status(self, run: RunDir, handle: Mapping[str, Any], job: Queued | None, seen: queue.Listing) -> Status | None:
        """What the queue says of one job; ``None`` if it knows nothing of it."""
        if job is None:
            if seen.error:
                return Status(None, "pending", seen.error)
            if not handle:
                return Status(None, "pending", "being submitted")
            if seen.taken < float(handle.get("submitted", 0.0)):
                return Status(True, "pending", f"submitted to {self.system.words} as job {handle['job']}")
            return None
        if job.state == "ended":
            return self._end(run, handle, job)
        if job.state == "running":
            where = f" on {', '.join(job.nodes)}" if job.nodes else ""
            return Status(True, "starting", f"its node program is being started{where}")
        return Status(True, "pending", self._waiting(job))

    def _waiting(self, job: Queued) -> str:
        parts = [job.words or f"waits in the queue ({job.code})"]
        if job.start is not None and job.start > time.time():
            parts.append(f"{self.system.words} expects it to start in {say_time(job.start - time.time())}")
        return "; ".join(parts)

    def _gone(self, runs: Sequence[RunDir], missing: Mapping[int, Mapping[str, Any]]) -> dict[int, Status]:
        """Jobs that the queue has forgotten: accounting may know how they ended."""
        if not missing:
            return {}
        try:
            told = self.system.ended([str(handle["job"]) for handle in missing.values()])
        except MlnbError as error:
            return {index: Status(None, "pending", str(error)) for index in missing}
        found = {}
        for index, handle in missing.items():
            vanished = Queued("ended", "vanished", f"{self.system.words} no longer knows its job {handle['job']}")
            found[index] = self._end(runs[index], handle, told.get(str(handle["job"]), vanished))
        return found

    def _end(self, run: RunDir, handle: Mapping[str, Any], job: Queued) -> Status:
        """Note how a job ended, so that nobody need ask again."""
        state = _STATES.get(job.cause, "failed")
        if handle:
            with contextlib.suppress(MlnbError):
                write_json(run.ended, {"job": handle["job"], "state": state, "reason": job.words, "code": job.code})
        return Status(False, state, job.words)

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. The node program ends by itself; what does not, is taken down."""
        job = str((read_json(run.handle) or {}).get("job") or self._submitted.get(run.path.name) or "")
        if not job:
            found = self._find(run, {}, queue.listing(self.system, 0.0).jobs)
            if found is None:
                return True
            job = str(found.about["id"])
        grace = float((read_json(run.run) or {}).get("grace", 20.0))
        end = time.monotonic() + grace
        while _beats(run) and time.monotonic() < end:  # it looks for cancel.json and makes its checkpoint
            time.sleep(_STEP)
        self.system.cancel(job)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            queue.forget(self.system)
            seen = queue.listing(self.system, 0.0)
            there = seen.jobs.get(job)
            if not seen.error and (there is None or there.state == "ended"):
                return True
            time.sleep(1.0)
        return False

    def mirror(self, run: RunDir) -> None:
        """Nothing to do: nodes and notebook share a file system."""


_STATES = {"cancelled": "cancelled", "vanished": "lost", "completed": "lost"}
"""How a run ended whose job ended so without a result of its own."""


def _beats(run: RunDir) -> bool:
    """Whether the newest attempt's first node has written its heartbeat a moment ago, and has not ended since."""
    attempts = run.attempts()
    if not attempts or (read_json(run.result) or {}).get("attempt", 0) >= attempts[-1].number:
        return False
    beat = read_json(attempts[-1].alive(0))
    return beat is not None and abs(time.time() - float(beat["t"])) < FRESH
