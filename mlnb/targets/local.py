"""The local target: detached processes on this machine, which get its cores and GPUs in order of submission."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlnb.errors import MlnbError, UsageError
from mlnb.files import first_lines
from mlnb.node.machine import gpus as devices
from mlnb.node.process.identity import in_other_namespace, is_alive, process_identity, send_signal, wait_for_exit
from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import GRACE, NodeSettings, RunInfo
from mlnb.targets import local_container, other_host, registry, warm
from mlnb.targets.base import SUBMITTING, Offer, Placement, Status, check_options, gpus_of
from mlnb.targets.config import limits
from mlnb.targets.config import settings as typed
from mlnb.targets.config.options import IMAGE, TargetOption
from mlnb.targets.containers import Contained
from mlnb.targets.environment import run_environment
from mlnb.targets.gpus.selection import refuse_gpu_selection
from mlnb.targets.many import cancel_at_once, submit_one_by_one
from mlnb.targets.mirror.base import Mirror
from mlnb.task import Resources, Task
from mlnb.units import format_time
from mlnb.workspace import Workspace

WARM = "warm"
"""How a run was started: by the fork server."""

_PATIENCE = 5.0
"""Seconds to wait for a process to start, or to be gone after SIGKILL."""

_IMPORT_PATIENCE = 60.0
"""Seconds to wait for a fork server that still imports torch."""


class Local:
    """Runs on the machine of the session.

    Parameters
    ----------
    name
        as it is chosen with ``--on``.
    settings
        of the configuration: ``warm`` (whether a fork server starts node programs; true by default),
        ``grace`` (seconds between SIGTERM and SIGKILL), ``image`` and ``container`` (as those of a batch system).
    workspace
        whose runs it runs.
    """

    kind: ClassVar[str] = "local"
    options: ClassVar[tuple[TargetOption, ...]] = (IMAGE,)
    settings: ClassVar[frozenset[str]] = limits.SETTINGS | {"warm", "grace", "image", "container"}
    mirror: Mirror | None = None

    def __init__(self, name: str, settings: Mapping[str, Any], workspace: Workspace) -> None:
        self.name, self._settings, self.workspace = name, settings, workspace
        self._warm = bool(self._settings.get("warm", True))

    def prepare(self) -> None:
        """Start the fork server."""
        if self._warm and not self._settings.get("image"):
            warm.start(self.workspace)

    # resources

    def resources(self) -> Mapping[str, Any]:
        """Cores and GPUs of this machine."""
        return {"cpus": cores(), "gpus": list(gpus())}

    def offer(self, requested: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        check_options(self, placement)
        refuse_gpu_selection(requested, "on this machine: only batch systems choose GPUs. Use another --on")
        limits.check(self.name, self._settings, requested)
        requested = limits.default_gpus(self._settings, requested)
        if requested.nodes != 1:
            raise UsageError(f"--nodes {requested.nodes}: the local target is one machine; use --nodes 1")
        all_gpus, all_cores, ranks = gpus(), cores(), requested.ranks
        gpu_count = gpus_of(requested, len(all_gpus))
        if gpu_count > len(all_gpus):
            raise UsageError(_too_few_gpus(gpu_count, all_gpus, self.name, self.workspace))
        cpus = requested.cpus or max(1, min(all_cores // ranks, 8))
        if requested.cpus and requested.cpus * ranks > all_cores:
            nearest = max(1, all_cores // ranks)
            raise UsageError(
                f"--cpus {requested.cpus}: {ranks} rank{'s' * (ranks > 1)} × {requested.cpus} cores are "
                f"{ranks * requested.cpus}; this machine has {all_cores}. --cpus {nearest} is the most"
            )
        container = self._container(placement.options.get("image"))
        lines = [f"{ranks} rank{'s' * (ranks > 1)} × {cpus} core{'s' * (cpus > 1)} of this machine's {all_cores}"]
        if ranks > all_cores:
            lines.append(f"{ranks} ranks share {all_cores} cores")
        if gpu_count:
            lines.append(f"{gpu_count} of {len(all_gpus)} GPUs")
        lines.append("no time limit" if requested.time is None else f"time limit {format_time(requested.time)}")
        queue = {
            "folder": str(self.workspace.runtime_dir()),
            "cpus": min(ranks * cpus, all_cores),
            "gpus": gpu_count,
            "cpus_total": all_cores,
            "gpus_total": list(all_gpus),
            "gpu_ids": _gpu_ids(all_gpus),
        }
        if container is not None:
            lines += local_container.summary_lines(container, warm_start=self._warm)
        node = NodeSettings(
            grace=typed.seconds(self._settings, "grace") or GRACE,
            threads=cpus,
            queue=queue,
            queued_outside=container is not None,  # mlnb.node.container_start waits
        )
        resources = Resources(1, ranks, gpu_count, cpus, requested.memory, requested.time)
        return Offer(resources, tuple(lines), node, {} if container is None else {"image": container.image})

    def preview(self, run: RunDir, offer: Offer) -> str:
        """The command that starts the container; empty without an image, where the script says everything."""
        container = self._container(offer.placement.get("image"))
        if container is None:
            return ""
        return shlex.join(container.wrap(["-m", "mlnb.node", str(run.path)], run, offer.resources, {}).command)

    def _container(self, image: str | None) -> Contained | None:
        return local_container.container_for(image, self._settings, self.workspace)

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        info = RunInfo.read(run)
        attempt = max(1, len(run.attempts()))
        pid, how = self._start(run, attempt, info.placement.get("image"), env)
        identity = process_identity(pid) or ""
        if how != WARM:  # the fork server adds the run to the queue itself
            request = info.node.queue or {}
            LocalQueue.from_settings(request).enqueue(info.id, request["cpus"], request["gpus"], pid, identity)
        return {"target": self.name, "pid": pid, "identity": identity, "start": how, "attempt": attempt}

    def _start(self, run: RunDir, attempt: int, image: str | None, env: Mapping[str, str]) -> tuple[int, str]:
        """Start a run; returns a pid, and how it was started: ``warm``, ``cold`` or ``container``."""
        container = self._container(image) if image else None
        if container is not None:
            return local_container.start(run, container, attempt, env), "container"
        environment = run_environment(env, self.workspace)
        pid = warm.submit(run, attempt, environment, self.workspace) if self._warm else None
        return (pid, WARM) if pid is not None else (self._start_cold(run, attempt, environment), "cold")

    def _start_cold(self, run: RunDir, attempt: int, env: Mapping[str, str]) -> int:
        return warm.start_detached(self._command(run, attempt), env, run, attempt)

    def _command(self, run: RunDir, attempt: int) -> list[str]:
        """The command that starts a node program without a fork server."""
        return [sys.executable, "-m", "mlnb.node", str(run.path), "--attempt", str(attempt)]

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """See :class:`mlnb.targets.base.Target`."""
        return submit_one_by_one(self, runs, envs)

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        return [self._status(run) for run in runs]

    def _status(self, run: RunDir) -> Status:
        process = self._process(run)
        if process is None:
            return Status(None, "pending", SUBMITTING)
        if in_other_namespace(process[1]):
            return other_host.status(run, _host(run))
        if not is_alive(*process):
            return Status(False, reason="its node program is gone")
        queue = RunInfo.read(run).node.queue
        waiting = LocalQueue.from_settings(queue).waiting_for(run.path.name) if queue else None
        if queue is None or waiting is None:
            return Status(True, "starting", "")
        ahead, holders = waiting
        if not ahead and not holders:
            return Status(True, "starting", "starting Python…")
        return Status(True, "pending", _waiting_reason(run, queue, ahead, holders))

    def _process(self, run: RunDir) -> tuple[int, str] | None:
        """Pid and identity of the node program, or of the process that starts it: in an image, the container engine."""
        started = None if _in_image(run) else _started_event(run)
        process = started or read_json(run.handle) or {}
        return (process["pid"], process["identity"]) if {"pid", "identity"} <= process.keys() else None

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. SIGTERM, grace for a checkpoint, SIGKILL."""
        process = self._process(run)
        grace = RunInfo.read(run).node.grace
        if process is not None and in_other_namespace(process[1]):
            return other_host.wait_for_end(run, grace + _PATIENCE * 2)
        if process is None or not self._is_node(run, process):  # being submitted, or torch being imported
            process = self._await_node(run, process)
        if process is None or not send_signal(*process, signal.SIGTERM):
            return process is not None or not self._starting(run)
        if wait_for_exit(*process, grace + _PATIENCE):
            return True
        send_signal(*process, signal.SIGKILL)
        return wait_for_exit(*process, _PATIENCE)

    def cancel_many(self, runs: Sequence[RunDir]) -> list[bool]:
        """See :class:`mlnb.targets.base.Target`."""
        return cancel_at_once(self, runs)

    def _is_node(self, run: RunDir, process: tuple[int, str]) -> bool:
        """Whether ``process`` is the run's node program, not the fork server that has yet to start it."""
        started = _started_event(run) or {}
        return _in_image(run) or (started.get("pid"), started.get("identity")) == process

    def _await_node(self, run: RunDir, starter: tuple[int, str] | None) -> tuple[int, str] | None:
        """Wait for the node program, which handles signals, while the process ``starter`` lives, which starts it."""
        end = time.monotonic() + (_PATIENCE if starter is None else _IMPORT_PATIENCE)
        while time.monotonic() < end:
            gone = starter is not None and not is_alive(*starter)
            process = self._process(run)
            if process is not None and self._is_node(run, process):
                return process
            if gone:
                break
            time.sleep(0.02)
        return None

    def _starting(self, run: RunDir) -> bool:
        """Whether the process that will start the node program is alive."""
        process = self._process(run)
        return process is not None and is_alive(*process)


def _in_image(run: RunDir) -> bool:
    """Whether a run's node program is in a container, where it may have another pid than on the host."""
    return RunInfo.read(run).node.queued_outside


def _started_event(run: RunDir) -> dict[str, Any] | None:
    """The first event of the newest attempt's node program, with its process; ``None`` before that."""
    for attempt in run.attempts()[-1:]:
        for event in first_lines(attempt.events(0)):
            if event.get("event") == "started":
                return event
    return None


def _waiting_reason(run: RunDir, queue: Mapping[str, Any], ahead: int, holders: Sequence[str]) -> str:
    """Why a run waits: the missing resource, the runs that use it, and with how few cores it could start now."""
    cpus, free_gpus = LocalQueue.from_settings(queue).available()
    missing = [
        *(["CPU cores"] if queue["cpus"] > cpus else []),
        *(["a GPU" if queue["gpus"] == 1 else "GPUs"] if queue["gpus"] > len(free_gpus) else []),
    ]
    names = [_name(run.path.with_name(run_id)) for run_id in holders[:3]]
    using = f"; {' and '.join(names)} {'is' if len(names) == 1 else 'are'} using them" if names else ""
    if ahead or not missing:
        return f"Waiting for its turn: {ahead} run{'s' * (ahead != 1)} ahead{using.replace('using them', 'running')}"
    task = Task.from_json(read_json(run.task) or {})
    fewer = cpus // task.resources.ranks
    hint = f". It could start now with --cpus {fewer}" if missing == ["CPU cores"] and fewer else ""
    return f"Waiting for {' and '.join(missing)}{using}{hint}"


def _name(path: Path) -> str:
    return RunInfo.read(RunDir(path)).name


def _too_few_gpus(count: int, available: Sequence[str], target: str, workspace: Workspace) -> str:
    """The error text for ``target``: how many GPUs this machine has, and which other targets have enough."""
    number = f"{len(available)} GPU{'s' * (len(available) > 1)} ({', '.join(available)})" if available else "no GPU"
    fewer = f"--gpus {len(available)}" if available else "drop --gpus"
    others = " or ".join(
        f"--on {name} ({gpus} GPU{'s' * (gpus > 1)})"
        for name, gpus in _targets_with_gpus(count, workspace)
        if name != target
    )
    if others:
        advice = f"Use {others}, or {fewer}."
    elif available:
        advice = f"Use {fewer}, or configure a target that has more (docs: site setup)."
    else:
        advice = "Drop --gpus, or configure a target that has GPUs (docs: site setup)."
    return f"--gpus {count}: this machine has {number}. {advice}"


def _targets_with_gpus(count: int, workspace: Workspace) -> list[tuple[str, int]]:
    """The targets with at least ``count`` GPUs, and how many each has. Targets that don't answer are left out."""
    targets = []
    for name in registry.names(workspace):
        with contextlib.suppress(MlnbError):
            number = len(registry.target(name, workspace).resources().get("gpus", ()))
            targets += [(name, number)] if number >= count else []
    return targets


def _host(run: RunDir) -> str:
    """The name of the machine that a run's newest attempt is on."""
    started = _started_event(run) or {}
    if "host" in started:
        return str(started["host"])
    return RunInfo.read(run).host or "another machine"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def gpus() -> tuple[str, ...]:
    """The machine's GPUs by the names of CUDA_VISIBLE_DEVICES; from NVML, since CUDA must not be initialised here."""
    visible = devices.visible_gpus()
    names = devices.nvml_gpus() if visible is None else tuple(dict.fromkeys(visible))
    ids, counted, distinct = _gpu_ids(names), set[str](), []
    for name in names:
        of_name = set(ids.get(name, (name,)))
        distinct += [name] if counted.isdisjoint(of_name) else []
        counted |= of_name
    return tuple(distinct)


@functools.lru_cache(maxsize=1)
def _gpu_ids(names: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    return devices.physical_ids(names) if names else {}
