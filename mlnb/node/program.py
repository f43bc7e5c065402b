"""The node program: starts the ranks, watches over them, turns signals into checkpoints, writes what happens."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from mlnb.errors import StorageError
from mlnb.node import launch, machine, processes, verdict
from mlnb.node.events import Events
from mlnb.node.guard import Guard
from mlnb.node.slots import Slots
from mlnb.node.stop import STOPPED
from mlnb.node.telemetry import Telemetry, held
from mlnb.rundir import RunDir, read_json, write_json
from mlnb.task import Task
from mlnb.units import say_size

GRACE = 10.0
"""Seconds a rank has between SIGTERM and SIGKILL."""

_TICK = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)


class NodeProgram:
    """One node of one attempt.

    Parameters
    ----------
    run_dir
        the run directory.
    node, attempt
        which node of the allocation (0 writes the result), and which attempt (from 1).
    """

    def __init__(self, run_dir: RunDir, node: int = 0, attempt: int = 1) -> None:
        self.run_dir, self.node, self.attempt = run_dir, node, attempt
        self.task = Task.from_json(read_json(run_dir.task) or {})
        self.about = read_json(run_dir.run) or {}
        self.files = run_dir.attempt(attempt)
        self.events = Events(self.files, node)
        self._ranks: dict[int, int] = {}  # pid (and process group) → rank
        self._groups: set[int] = set()
        self._ended: list[verdict.Ended] = []
        self._signals: list[int] = []
        self._ending: tuple[str, str] | None = None
        self._kill_at = float("inf")
        self._warned = False
        self._why = ""
        self._started = 0.0

    def main(self) -> int:
        """Run this node to its end; the run's exit code."""
        self._wakeup = self._take_signals()
        grace = float(self.about.get("grace", GRACE))
        os.environ["MLNB_GRACE"] = str(grace)
        self._grace = grace
        with contextlib.suppress(OSError):
            os.chdir(self.about.get("cwd") or self.run_dir.path)
        pid = os.getpid()
        self.events.add(
            "started",
            pid=pid,
            identity=processes.identity(pid),
            host=socket.gethostname(),
            python=platform.python_version(),
        )
        self._cancelled()  # perhaps before there was a process to tell
        slots, devices = self._wait_for_slots()
        try:
            if self._ending is None:
                self._run(devices)
            return self._finish()
        finally:
            if slots is not None:
                slots.release(self.about["id"])

    def _take_signals(self) -> int:
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        return read

    def _pause(self, seconds: float) -> None:
        """Sleep until a signal comes or the time is over, and take the signals."""
        with contextlib.suppress(InterruptedError):
            select.select([self._wakeup], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            self._signals.extend(os.read(self._wakeup, 1024))
        while self._signals:
            self._heed(self._signals.pop(0))

    def _heed(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self._warn("it was warned (SIGUSR1) that the end is near")
        elif number == signal.SIGTERM and not self._cancelled():
            self._end("failed", "told to end (SIGTERM) by the system, not through mlnb")

    def _cancelled(self) -> bool:
        """End if someone has cancelled the run; whether someone has."""
        cancel = read_json(self.run_dir.cancel)
        if cancel is not None:
            self._end("cancelled", f"cancelled by {cancel.get('by', 'its owner')}")
        return cancel is not None

    def _warn(self, why: str) -> None:
        self._why = why
        self.events.add("warned", why=why)
        for pid in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def _end(self, state: str, reason: str) -> None:
        """Tell the ranks to end; the first reason stands."""
        if self._ending is not None:
            return
        self._ending = (state, reason)
        self.events.add("ending", state=state, reason=reason)
        self._kill_at = time.monotonic() + self._grace
        for pid in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _wait_for_slots(self) -> tuple[Slots | None, tuple[str, ...]]:
        """Wait for this machine's cores and GPUs where the target hands them out so."""
        asked = self.about.get("slots")
        if not asked:
            return None, ()
        slots = Slots(Path(asked["folder"]), asked["cpus_total"], tuple(asked["gpus_total"]))
        run = self.about["id"]
        slots.claim(run, asked["cpus"], asked["gpus"])
        while self._ending is None:
            devices = slots.acquire(run)
            if devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
                return slots, devices
            self.events.beat()
            place = slots.ahead(run)
            self._pause(0.03 * (1 + min(place[0] if place else 0, 30)))
        return slots, ()

    def _run(self, devices: tuple[str, ...]) -> None:
        self.events.add("starting")
        if sys.version_info >= (3, 12):  # our own threads are none; libraries' threads take care of themselves
            import warnings

            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        with contextlib.suppress(ImportError):
            importlib.import_module("torch")
        self._pause(0)
        if self._ending is not None:
            return
        oom = verdict.oom_kills()
        guard = Guard()
        port = launch.free_port()
        for local_rank in range(self.task.resources.ranks):
            pid = launch.fork_rank(
                self.run_dir,
                self.about.get("id", self.run_dir.path.name),
                self.task,
                local_rank=local_rank,
                node=self.node,
                attempt=self.attempt,
                port=port,
                cpus=self.about.get("threads", 1),
                guard=guard,
            )
            self._ranks[pid] = self.node * self.task.resources.ranks + local_rank
            self._groups.add(pid)
        self._started = time.monotonic()
        self.events.add("running", ranks={rank: pid for pid, rank in self._ranks.items()}, gpus=devices)
        self._telemetry = Telemetry(devices)
        try:
            self._watch(oom)
            with contextlib.suppress(OSError, StorageError):
                write_json(self.files.machine(self.node), machine.describe(self._telemetry.devices()))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guard.pid, signal.SIGKILL)
                os.waitpid(guard.pid, 0)

    def _watch(self, oom_before: int) -> None:
        next_sample = 0.0
        while self._ranks:
            self._reap(oom_before)
            if not self._ranks:
                break
            now = time.monotonic()
            if now >= next_sample:
                next_sample = now + _TICK
                self.events.beat()
                sample = self._telemetry.sample(self._groups)
                self.events.add("sample", **sample)
                self._check_limits(now, sample["memory"])
            if now >= self._kill_at:
                for pid in self._ranks:
                    processes.kill_group(pid, signal.SIGKILL)
                self._kill_at = float("inf")
            self._pause(min(next_sample, self._kill_at) - time.monotonic())

    def _check_limits(self, now: float, memory: int) -> None:
        limit = self.task.resources.time
        if limit is not None:
            left = limit - (now - self._started)
            if left <= min(60.0, 0.1 * limit) and not self._warned:
                self._warned = True
                self._warn(f"{max(0.0, left):.0f} s of its time were left")
            if left <= 0:
                self._end("failed", f"out of time: it ran for the {limit} s that --time allows")
        bound = self.task.resources.memory
        if bound is not None and memory > bound and self._ending is None:
            exact = held(self._groups)
            if exact > bound:
                self._end("failed", f"out of memory: it held {say_size(exact)}, --memory allows {say_size(bound)}")
                self._kill_at = now  # the machine's memory can't wait for a grace

    def _reap(self, oom_before: int) -> None:
        for pid, rank in list(self._ranks.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done == 0:
                continue
            del self._ranks[pid]
            processes.kill_group(pid, signal.SIGKILL)  # what it started and left behind
            end = verdict.ended(self.files, rank, status)
            self._ended.append(end)
            self.events.add("rank-ended", rank=rank, exit_code=end.code)
            if not end.succeeded and self._ending is None:
                found = verdict.failure(end, self._telemetry.peak_memory, verdict.oom_kills() - oom_before)
                if end.code == STOPPED and self._why:
                    found["reason"] = f"rank {rank} ended behind a checkpoint: {self._why}"
                self._failure = found
                self._end("failed", found["reason"])

    _failure: dict[str, Any] | None = None
    _telemetry: Telemetry

    def _finish(self) -> int:
        state, reason = self._ending or ("succeeded", "")
        ranks = self.task.resources.ranks
        if len(self._ended) == ranks and all(end.succeeded for end in self._ended):
            state, reason = "succeeded", ""  # it was through before it could be stopped
        notes = [note for end in self._ended for note in (end.account or {}).get("notes", ())]
        trained = [(end.account or {}).get("trained") or {} for end in self._ended]
        meant = any(word in self.task.script for word in (".backward(", ".step(", ".fit("))
        if state == "succeeded" and meant and not any(t.get("backwards") for t in trained):
            notes.append("no training step was seen: neither backward() nor an optimizer's step()")
        failure = self._failure if state == "failed" and self._failure else {"exit_code": None, "error": None}
        code = 0 if state == "succeeded" else failure["exit_code"] or 1
        result = {
            "state": state,
            "reason": reason,
            "exit_code": code,
            "attempt": self.attempt,
            "ended": time.time(),
            "error": failure["error"],
            "notes": notes,
            "peak_memory": self._telemetry.peak_memory if self._started else None,
            "seconds": round(time.monotonic() - self._started, 3) if self._started else None,
        }
        self.events.add("ended", state=state, reason=reason)
        if self.node == 0:
            self.events.result(self.run_dir.result, result)
        return code
