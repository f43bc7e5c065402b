"""The local target: detached processes on this machine, one after the other on its cores and GPUs."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from mlnb.errors import UsageError
from mlnb.node.machine import gpus as devices
from mlnb.node.process.identity import in_other_namespace, is_alive, process_identity, send_signal, wait_for_exit
from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, read_json, read_lines
from mlnb.targets import other_host, warm
from mlnb.targets.base import Offer, Placement, Status, gpus_of
from mlnb.targets.config import limits
from mlnb.targets.config import settings as typed
from mlnb.targets.config.paths import runtime_dir
from mlnb.targets.environment import passed
from mlnb.targets.mirror.base import Mirror
from mlnb.task import Resources

_PATIENCE = 5.0
_IMPORT = 60.0
"""Seconds that a warm parent has to import torch."""


class Local:
    """Runs on the machine of the session.

    Parameters
    ----------
    name
        as it is chosen with ``--on``.
    settings
        of the configuration: ``warm`` (true), ``grace`` in seconds.
    """

    kind: ClassVar[str] = "local"
    settings: ClassVar[frozenset[str]] = limits.SETTINGS | {"warm", "grace"}
    mirror: Mirror | None = None

    def __init__(self, name: str = "local", settings: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self._settings = settings or {}
        self._warm = bool(self._settings.get("warm", True))

    def prepare(self) -> None:
        """Start the warm parent."""
        if self._warm:
            warm.start()

    # what there is

    def resources(self) -> Mapping[str, Any]:
        """Cores and GPUs of this machine."""
        return {"cpus": cores(), "gpus": list(gpus())}

    def offer(self, asked: Resources, placement: Placement = Placement()) -> Offer:  # noqa: B008 - it is frozen
        """See :class:`mlnb.targets.base.Target`."""
        self._check_placement(asked, placement)
        asked = limits.usual(self._settings, asked)
        if asked.nodes != 1:
            raise UsageError(f"--nodes {asked.nodes}: the local target is one machine; --nodes 1 is all it has")
        there = gpus()
        wanted = gpus_of(asked, len(there))
        if wanted > len(there):
            have = f"this machine has {len(there)} ({', '.join(there)})" if there else "this machine has none"
            raise UsageError(f"--gpus {wanted}: {have}. --gpus {len(there)} would run here; --on names another target")
        ranks = asked.ranks
        cpus = asked.cpus or max(1, min(cores() // ranks, 8))
        if asked.cpus and asked.cpus * ranks > cores():
            nearest = max(1, cores() // ranks)
            raise UsageError(
                f"--cpus {asked.cpus}: {ranks} rank{'s' * (ranks > 1)} × {asked.cpus} cores are "
                f"{ranks * asked.cpus}; this machine has {cores()}. --cpus {nearest} is the most"
            )
        words = [f"{ranks} rank{'s' * (ranks > 1)} × {cpus} core{'s' * (cpus > 1)} of the {cores()} here"]
        if ranks > cores():
            words.append(f"{ranks} ranks share {cores()} cores")
        if wanted:
            words.append(f"{wanted} of {len(there)} GPUs")
        words.append("no time limit" if asked.time is None else f"ends after {timedelta(seconds=asked.time)}")
        resources = Resources(1, ranks, wanted, cpus, asked.memory, asked.time)
        need = min(ranks * cpus, cores())
        folder = str(runtime_dir())
        slots = {
            "folder": folder,
            "cpus": need,
            "gpus": wanted,
            "cpus_total": cores(),
            "gpus_total": list(there),
        }
        about = {"slots": slots, "threads": cpus, "grace": typed.seconds(self._settings, "grace") or 10.0}
        return Offer(resources, tuple(words), about)

    def _check_placement(self, asked: Resources, placement: Placement) -> None:
        for flag, given, why in (
            ("--partition", placement.partition, "this machine has no partitions; --on names a batch system"),
            ("--account", placement.account, "this machine asks nobody to pay; --on names a batch system"),
            ("--qos", placement.qos, "this machine knows no such thing; --on names a batch system"),
            ("--image", placement.image, "runs on this machine use this session's Python; --on names another target"),
            ("--gpu-type", asked.gpu_type, "this machine's GPUs are what they are; --on names another target"),
            ("--gpu-memory", asked.gpu_memory, "this machine's GPUs are what they are; --on names another target"),
            ("--gpu-capability", asked.gpu_capability, "this machine's GPUs are what they are; --on names another"),
        ):
            if given is not None:
                raise UsageError(f"{flag} {given}: {why}")
        limits.check(self.name, self._settings, asked)

    def preview(self, run: RunDir, offer: Offer) -> str:  # noqa: ARG002
        """Nothing: the script is all there is."""
        return ""

    # the job

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`mlnb.targets.base.Target`."""
        about = read_json(run.run) or {}
        attempt = max(1, len(run.attempts()))
        environment = passed(env)
        pid = warm.submit(run, attempt, environment) if self._warm else None
        how = "warm" if pid is not None else "cold"
        pid = pid or self._start_cold(run, attempt, environment)
        identity = process_identity(pid) or ""
        slots = about["slots"]
        queue = LocalQueue(Path(slots["folder"]), slots["cpus_total"], tuple(slots["gpus_total"]))
        queue.enqueue(about["id"], slots["cpus"], slots["gpus"], pid, identity)
        return {"target": self.name, "pid": pid, "identity": identity, "start": how, "attempt": attempt}

    def _start_cold(self, run: RunDir, attempt: int, env: Mapping[str, str]) -> int:
        folder = run.attempt(attempt).path
        with (folder / "node-0.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(run, attempt),
                env=warm.with_node_zip(env, run.node_zip),
                cwd=run.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        warm.reap(process)
        return process.pid

    def _command(self, run: RunDir, attempt: int) -> list[str]:
        """What starts a node program where no warm parent forks it."""
        return [sys.executable, "-m", "mlnb.node", str(run.path), "--attempt", str(attempt)]

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """See :class:`mlnb.targets.base.Target`."""
        return [self._status(run) for run in runs]

    def _status(self, run: RunDir) -> Status:
        process = self._process(run)
        if process is None:
            return Status(None, "pending", "being submitted")
        if in_other_namespace(process[1]):
            return other_host.status(run, _host(run))
        if not is_alive(*process):
            return Status(False, reason="its node program is gone")
        slots = (read_json(run.run) or {}).get("slots")
        place = LocalQueue(Path(slots["folder"]), 0).waiting_for(run.path.name) if slots else None
        if place is None:
            return Status(True, "starting", "")
        count, holders = place
        if not count and not holders:
            return Status(True, "starting", "the node program is being started")
        others = f", behind {count} other{'s' * (count > 1)}" if count else ""
        names = [str((read_json(RunDir(run.path.with_name(one)).run) or {}).get("name", one)) for one in holders[:3]]
        busy = f" (held by {', '.join(names)})" if holders else ""
        return Status(True, "pending", f"waits for cores or GPUs of this machine{others}{busy}")

    def _process(self, run: RunDir) -> tuple[int, str] | None:
        """The node program, or whoever is going to start it."""
        for attempt in reversed(run.attempts()):
            for event in reversed(read_lines(attempt.events(0))):
                if event["event"] == "started":
                    return event["pid"], event["identity"]
            break
        handle = read_json(run.handle)
        return (handle["pid"], handle["identity"]) if handle else None

    def cancel(self, run: RunDir) -> bool:
        """See :class:`mlnb.targets.base.Target`. TERM, grace for a checkpoint, KILL; verified."""
        process = self._process(run)
        grace = float((read_json(run.run) or {}).get("grace", 10.0))
        if process is not None and in_other_namespace(process[1]):
            return other_host.ended(run, grace + _PATIENCE * 2)
        if process is None or not self._is_node(run, process):  # being submitted, or torch being imported
            process = self._await_node(run, process)
        if process is None or not send_signal(*process, signal.SIGTERM):
            return process is not None or not self._starting(run)
        if wait_for_exit(*process, grace + _PATIENCE):
            return True
        send_signal(*process, signal.SIGKILL)
        return wait_for_exit(*process, _PATIENCE)

    def _is_node(self, run: RunDir, process: tuple[int, str]) -> bool:
        """Whether ``process`` is the run's own, not the warm parent that has yet to start it."""
        return any(
            (event.get("pid"), event.get("identity")) == process
            for attempt in run.attempts()
            for event in read_lines(attempt.events(0))
        )

    def _await_node(self, run: RunDir, starter: tuple[int, str] | None) -> tuple[int, str] | None:
        """Wait for the node program, which can be told to end, while ``starter`` lives, who is to start it."""
        end = time.monotonic() + (_PATIENCE if starter is None else _IMPORT)
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
        """Whether someone lives who is going to start the node program."""
        process = self._process(run)
        return process is not None and is_alive(*process)


def _host(run: RunDir) -> str:
    """The machine that a run's newest attempt is on."""
    for attempt in run.attempts()[-1:]:
        for event in read_lines(attempt.events(0)):
            if "host" in event:
                return str(event["host"])
    return str((read_json(run.run) or {}).get("host", "another machine"))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def gpus() -> tuple[str, ...]:
    """The machine's GPUs as CUDA_VISIBLE_DEVICES names them; asks NVML, so that CUDA stays untouched."""
    visible = devices.visible_gpus()
    return devices.nvml_gpus() if visible is None else visible
