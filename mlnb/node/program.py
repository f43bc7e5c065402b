"""The node program: starts the ranks, watches over them, turns signals into checkpoints, writes what happens.

There is one a node. They tell each other what happens (``mlnb.node.gang.rendezvous``); what ends one ends all, and node
0 writes the result when it has heard how every rank ended.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlnb.errors import StorageError
from mlnb.node import launch
from mlnb.node.attempt import job_environment, outcome
from mlnb.node.attempt.deadline import Deadline
from mlnb.node.attempt.events import INTERRUPTED, Events
from mlnb.node.attempt.outcome import StopRequest
from mlnb.node.attempt.slurm_end_cause import SlurmEndCause
from mlnb.node.checkpoint.progress import Progress
from mlnb.node.gang import rendezvous
from mlnb.node.gang.addresses import MasterAddress
from mlnb.node.gang.channel import Message
from mlnb.node.machine import gpus, hardware
from mlnb.node.machine.telemetry import Telemetry, proportional_memory
from mlnb.node.process.identity import process_identity
from mlnb.node.process.local_queue import LocalQueue
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.node.process.preload import RANK_MODULES, preload
from mlnb.node.process.signal_wait import SignalWaiter
from mlnb.node.rank.stop import STOPPED
from mlnb.node.rank_processes import RankProcesses
from mlnb.rundir import RunDir, read_json, read_json_fresh, write_json
from mlnb.task import Task
from mlnb.units import format_size

GRACE = 10.0
"""Seconds a rank has between SIGTERM and SIGKILL."""

GATHER = 300.0
"""Seconds that the nodes of a run have to find each other."""

_DOUBT = 2.0
"""Seconds to wait for the reason of a failure that looks like a consequence."""

_AT_ONCE = 1.0
"""Seconds a rank has to end when it can't make a checkpoint any more, since others are gone."""

_OVERDUE = 15.0
"""Seconds after which a node that should have killed its ranks, and hasn't said so, is given up."""

_TICK = 1.0


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
        resources, self._host = self.task.resources, job_environment.host_name()
        self._where = f" on node {node} ({self._host})" if resources.nodes > 1 else ""
        for earlier in range(1, attempt):  # one that was requeued before it came so far is an attempt all the same
            run_dir.attempt(earlier).path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.events = Events(self.files, node)
        self._crew = RankProcesses(node, resources.ranks)
        self._gang = rendezvous.create_rendezvous(self.files, node, resources.nodes, self._host)
        self._ended: list[outcome.RankExit] = []
        self._ending: StopRequest | None = None
        self._doubt: tuple[dict[str, Any], float] | None = None
        self._kill_at = self._abandon_at = float("inf")
        self._why = ""
        self._started = 0.0
        self._oom = 0
        self._peak = 0
        self._code = 1
        self._slots: LocalQueue | None = None
        self._said_goodbye = False
        self._cause = SlurmEndCause(run_dir)
        self._progress = Progress(run_dir.checkpoints)
        self._hear: dict[str, Callable[[Message], None]] = {
            "end": self._hear_end,
            "warn": lambda message: self._warn(message["why"]),
            "failed": lambda message: self._weigh(message["failure"]),
            "ended": self._hear_ended,
            "lost": self._hear_lost,
            "done": self._hear_done,
        }

    def main(self) -> int:
        """Run this node to its end; the run's exit code."""
        self._wakeup = SignalWaiter()
        self._grace = float(self.about.get("grace", GRACE))
        os.environ["MLNB_GRACE"] = str(self._grace)
        self._clock = Deadline(self.task.resources.time, job_environment.deadline(), self._grace)
        with contextlib.suppress(OSError):
            os.chdir(self.about.get("cwd") or self.run_dir.path)
        pid = os.getpid()
        identity, python = process_identity(pid), platform.python_version()
        self.events.add("started", pid=pid, identity=identity, host=self._host, python=python)
        self._cancelled()  # perhaps before there was a process to tell
        self._wait_for_slots()
        try:
            self._run()
            return self._finish()
        finally:
            self._gang.close()
            if self._slots is not None:
                self._slots.release(self.about["id"])

    # what it is told

    def _pause(self, seconds: float) -> None:
        """Sleep until a signal comes, another node says something or the time is over; take what came."""
        for number in self._wakeup.sleep(seconds, self._gang.files()):
            self._heed(number)
        for message in self._gang.news():
            self._hear[message["kind"]](message)

    def _heed(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self._warn("it was warned (SIGUSR1) that the end is near")
        elif number == signal.SIGTERM and not self._cancelled():
            told = f"told to end (SIGTERM{self._where}) by the system, not through mlnb"
            self._end(StopRequest("failed", self._cause.words() or told, by_system=True))

    def _cancelled(self) -> bool:
        """End if someone has cancelled the run; whether someone has."""
        cancel = read_json_fresh(self.run_dir.cancel)
        if cancel is not None:
            self._end(StopRequest("cancelled", f"cancelled by {cancel.get('by', 'its owner')}"))
        return cancel is not None

    def _hear_end(self, message: Message) -> None:
        self._end(StopRequest(**message["ending"]))

    def _hear_ended(self, message: Message) -> None:
        self._ended += [outcome.read_rank_exit(self.files, rank, status) for rank, status in message["ranks"]]
        self._peak = max(self._peak, message["peak"])

    def _hear_lost(self, message: Message) -> None:
        self._end(StopRequest("failed", f"node {message['node']} was lost ({message['host']})", again=True))
        if message["node"] == 0:
            self._kill_at = min(self._kill_at, time.monotonic() + _AT_ONCE)

    def _hear_done(self, message: Message) -> None:
        self._code = message["code"]

    def _warn(self, why: str) -> None:
        if self._why:
            return
        self._why = why
        self.events.add("warned", why=why)
        self._crew.tell(signal.SIGUSR1)
        self._gang.tell("warn", why=why)

    def _end(self, ending: StopRequest) -> None:
        """Tell the ranks to end, here and on all nodes; the first reason stands."""
        if self._ending is not None:
            return
        self._ending, self._doubt = ending, None
        self.events.add("ending", state=ending.state, reason=ending.reason)
        self._kill_at = time.monotonic() + self._grace
        self._abandon_at = self._kill_at + _OVERDUE
        self._crew.tell(signal.SIGTERM)
        self._gang.tell("end", ending=asdict(ending))

    # the way to the ranks

    def _wait_for_slots(self) -> None:
        """Wait for this machine's cores and GPUs where the target hands them out so."""
        asked = self.about.get("slots")
        if not asked:
            return
        self._slots = slots = LocalQueue(Path(asked["folder"]), asked["cpus_total"], tuple(asked["gpus_total"]))
        run = self.about["id"]
        slots.take_over(run, asked["cpus"], asked["gpus"])
        while self._ending is None:
            devices = slots.acquire(run)
            if devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
                break
            self.events.beat()
            self._cancelled()
            place = slots.waiting_for(run)
            self._pause(0.03 * (1 + min(place[0] if place else 0, 30)))

    def _run(self) -> None:
        if self._ending is None:
            self.events.add("starting")
            launch.expect_forks()
            with self.events.beating():
                broken = preload(RANK_MODULES)
            self._pause(0)
            if broken is not None:
                self._end(StopRequest("failed", f"{broken}{self._where} (Python {sys.executable})"))
        guard = OrphanGuard()  # forked before there is a connection that it would hold open
        try:
            meeting = self._gather()
            if meeting is not None and self._ending is None:
                self._start(meeting, guard)
            self._watch()
            if self._started:
                with contextlib.suppress(OSError, StorageError):
                    write_json(self.files.machine(self.node), hardware.describe(self._telemetry.devices()))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guard.pid, signal.SIGKILL)
                os.waitpid(guard.pid, 0)

    def _gather(self) -> MasterAddress | None:
        """Wait for the other nodes; where the ranks meet, or ``None`` if the run is to end before they do."""
        patience = float(self.about.get("gather", GATHER))
        until = time.monotonic() + patience
        while self._ending is None:
            meeting = self._gang.meet()
            if meeting is not None:
                return meeting
            missing = self._gang.missing() if time.monotonic() > until else ""
            if missing:
                self._end(StopRequest("failed", f"{missing} within {patience:.0f} s"))
            elif self._is_settled():
                self._end(StopRequest("failed", "node 0 had ended before this node found it"))
            self.events.beat()
            self._cancelled()
            self._pause(self._gang.patience)
        return None

    def _is_settled(self) -> bool:
        """Whether there is a result of this attempt, before this node took part in it."""
        return self.node > 0 and (read_json_fresh(self.run_dir.result) or {}).get("attempt", 0) >= self.attempt

    def _start(self, meeting: MasterAddress, guard: OrphanGuard) -> None:
        self._oom = outcome.oom_kills()
        self._crew.start(
            self.run_dir,
            self.about.get("id", self.run_dir.path.name),
            self.task,
            attempt=self.attempt,
            meeting=meeting,
            cpus=self.about.get("threads", 1),
            guard=guard,
            let_go=self._gang.close,
        )
        self._started = time.monotonic()
        if self.about.get("slots"):  # a batch system counts from the job's start, we from when it needn't wait
            self._clock = Deadline(self.task.resources.time, job_environment.deadline(), self._grace)
        devices = gpus.job_gpus(self.task.resources.gpus or 0)  # asks NVML, which is for after the forking
        self.events.add("running", ranks=self._crew.pids, gpus=devices)
        self._telemetry = Telemetry(devices)
        if self._why:  # warned before there was a rank to tell
            self._crew.tell(signal.SIGUSR1)

    # while they run

    def _watch(self) -> None:
        next_sample = 0.0
        while True:
            self._reap()
            if self.node > 0 and not self._crew and not self._said_goodbye:
                self._said_goodbye = True
                self._gang.tell("ended", ranks=[(end.rank, end.status) for end in self._ended], peak=self._peak)
            if not self._crew and self._doubt is None and self._gang.complete:
                break
            now = time.monotonic()
            if now >= next_sample:
                next_sample = now + _TICK
                self._look_around(now)
            if self._doubt is not None and now >= self._doubt[1]:
                self._fail(self._doubt[0])
            if now >= self._kill_at:
                self._crew.kill()
                self._kill_at = float("inf")
            if now >= self._abandon_at:
                self._gang.abandon()
            until = min(next_sample, self._kill_at, self._doubt[1] if self._doubt else next_sample)
            self._pause(until - time.monotonic())

    def _look_around(self, now: float) -> None:
        """What is to be done once a second."""
        self.events.beat()
        if self._slots is not None:
            self._slots.restore()
        self._cancelled()
        if self._ending is None and outcome.is_superseded(self.files):
            self._crew.kill()  # no checkpoint: the other attempt makes them now
            self._end(StopRequest("failed", "the run goes on in another attempt"))
        if self._crew:
            sample = self._telemetry.sample(self._crew.groups)
            self._peak = self._telemetry.peak_memory
            self.events.add("sample", **sample)
            self._check_memory(now, sample["memory"])
        if self.node == 0:  # one clock for all
            if self._clock.is_short and not self._why:
                self._warn(f"out of time: {max(0.0, self._clock.left):.0f} s of its time were left")
            if self._clock.is_over:
                self._end(StopRequest("failed", self._clock.verdict, again=True))

    def _check_memory(self, now: float, memory: int) -> None:
        bound = self.task.resources.memory
        if bound is not None and memory > bound and self._ending is None:
            exact = proportional_memory(self._crew.groups)
            if exact > bound:
                allowed = f"--memory allows {format_size(bound)}"
                if self._chose_memory:
                    allowed = f"the target chose {format_size(bound)}; more --memory may help"
                words = f"out of memory{self._where}: it held {format_size(exact)}, {allowed}"
                self._end(StopRequest("failed", words))
                self._kill_at = now  # the machine's memory can't wait for a grace

    @property
    def _chose_memory(self) -> bool:
        """Whether nobody asked for the memory that this run has: the target, or its site, did."""
        return "memory" in self.about.get("chosen", ())

    def _reap(self) -> None:
        ended = self._crew.reap()
        if ended:
            self._pause(0)  # a batch system tells ranks and node programs: what we were told comes first
        for rank, status in ended:
            end = outcome.read_rank_exit(self.files, rank, status)
            self._ended.append(end)
            self.events.add("rank-ended", rank=rank, exit_code=end.code)
            if not end.succeeded and self._ending is None:
                killed, bound = outcome.oom_kills() - self._oom, self.task.resources.memory
                whose = "the target chose" if self._chose_memory else "--memory is"
                said = "" if bound is None else f"{whose} {format_size(bound)}"
                found = outcome.describe_failure(end, self._peak, killed, self._where, said)
                if found["error"] and self._where:
                    found["error"] |= {"node": self.node, "host": self._host}
                found |= {"who": f"rank {rank}{self._where}", "stopped": end.code == STOPPED}
                found["doubtful"] = outcome.may_be_consequence(end) and (
                    found["stopped"] or self.task.resources.world_size > 1
                )
                self._gang.tell("failed", failure=found)
                if self.node == 0:
                    self._weigh(found)

    def _weigh(self, found: dict[str, Any]) -> None:
        """A rank has failed, on whatever node: end all, unless that may be the consequence of something else."""
        if found["doubtful"] and not (found["stopped"] and self._why):
            if self._doubt is None and self._ending is None:
                self._doubt = (found, time.monotonic() + _DOUBT)
        else:
            self._fail(found)

    def _fail(self, found: dict[str, Any]) -> None:
        warned = found["stopped"] and bool(self._why)
        reason = f"{self._why}; {found['who']} ended behind a checkpoint" if warned else found["reason"]
        self._end(StopRequest("failed", reason, again=warned, failure=found))

    _telemetry: Telemetry

    # the end

    def _finish(self) -> int:
        if self.node > 0 or outcome.is_superseded(self.files):  # the result is another's to write
            self.events.add("ended")
            return self._code
        ending = self._ending
        if ending is not None and ending.by_system:  # it may have said why only after it told us
            ending = replace(ending, reason=self._cause.words() or ending.reason)
        found = outcome.outcome(
            ending,
            self._ended,
            self.task.resources.world_size,
            requeue=bool(self.about.get("requeue")),
            progress=self._progress.made,
            resumable=str(self.about.get("name", "")) if self._progress.any else "",
        )
        if found.state == INTERRUPTED:
            self.events.add(INTERRUPTED, reason=found.reason)
        else:
            self.events.add("ended", state=found.state, reason=found.reason)
            self.events.result(self.run_dir.result, self._result(found))
        # only now: a launcher that sees one node leave with an error kills the others
        self._gang.tell("done", code=found.leaves_with)
        return found.leaves_with

    def _result(self, found: outcome.Outcome) -> dict[str, Any]:
        return {
            **found.told,
            "attempt": self.attempt,
            "ended": time.time(),
            "notes": outcome.notes(found, self._ended, self.task.script),
            "peak_memory": self._peak if self._started else None,  # of the node that held most
            "seconds": round(time.monotonic() - self._started, 3) if self._started else None,
        }
