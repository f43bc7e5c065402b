"""The node program: starts the ranks of one node, watches them, and writes what happens into the run directory.

Each node has one. They exchange messages (``mlnb.node.rendezvous``): what stops one node stops all. Node 0 writes the
result when it knows how every rank ended.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from mlnb.errors import MlnbError, StorageError
from mlnb.node import launch
from mlnb.node.attempt import folder, job_environment, rank_exit
from mlnb.node.attempt.deadline import Deadline
from mlnb.node.attempt.events import INTERRUPTED, Events
from mlnb.node.attempt.outcome import Outcome, StopRequest, collect_notes, decide_outcome, is_superseded
from mlnb.node.attempt.rank_exit import Failure, RankExit
from mlnb.node.attempt.slurm_end_cause import SlurmEndCause
from mlnb.node.checkpoint.names import to_resume_from
from mlnb.node.checkpoint.progress import Progress
from mlnb.node.machine import gpus, hardware
from mlnb.node.machine.telemetry import Telemetry, proportional_memory
from mlnb.node.process.identity import process_identity
from mlnb.node.process.local_queue import LocalQueue
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.node.process.preload import RANK_MODULES, preload
from mlnb.node.process.signal_wait import SignalWaiter
from mlnb.node.rank_processes import RankProcesses
from mlnb.node.rendezvous.base import Agreement
from mlnb.node.rendezvous.channel import Message
from mlnb.node.rendezvous.create import create_rendezvous
from mlnb.node.shutdown import Shutdown
from mlnb.rundir import RunDir, read_json, read_json_fresh, write_json
from mlnb.runinfo import RunInfo
from mlnb.task import Task
from mlnb.units import format_limit, format_size

_TIME_WARNING = 150.0
"""Seconds before the deadline from which SIGUSR1 means that the time is nearly over: batch systems send it up to a
minute before, SLURM up to another minute earlier (sbatch(1), ``--signal``)."""

_SAMPLE_INTERVAL = 1.0


class NodeProgram:
    """One node of one attempt.

    Parameters
    ----------
    run_dir
        the run directory.
    node, attempt
        which node of the allocation (0 writes the result), and which attempt (from 1).
    queue
        the pool's queue for cores and GPUs, which overrides the one in ``run.json``.
    first
        the attempt that the job was submitted for; 0 if it is this one.
    """

    def __init__(
        self, run_dir: RunDir, node: int = 0, attempt: int = 1, queue: Mapping[str, Any] | None = None, first: int = 0
    ) -> None:
        self._run_dir, self._node, self._attempt, self._first = run_dir, node, attempt, first or attempt
        self._task = Task.from_json(read_json(run_dir.task) or {})
        self._info = RunInfo.read(run_dir)
        settings = self._info.node
        self._queue_request = settings.queue_request(queue)
        self._files = run_dir.attempt(attempt)
        resources, self._host = self._task.resources, job_environment.host_name()
        self._where = f" on node {node} ({self._host})" if resources.nodes > 1 else ""
        for earlier in range(1, attempt):  # an attempt that was requeued before it started counts, too
            run_dir.attempt(earlier).path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._events = Events(self._files, node)
        self._ranks = RankProcesses(node, resources.ranks)
        self._rendezvous = create_rendezvous(
            self._files,
            node,
            resources.nodes,
            self._host,
            checkpoint=lambda: to_resume_from(run_dir, self._info.resume),
        )
        self._progress = Progress(run_dir.checkpoints)
        self._grace = settings.grace
        self._shutdown = Shutdown(
            self._events,
            self._ranks,
            self._rendezvous,
            grace=self._grace,
            made_checkpoint=lambda: self._progress.made,
        )
        self._system_cause = SlurmEndCause(run_dir)
        self._exits: list[RankExit] = []
        self._start_time: float | None = None
        self._oom_kills = 0
        self._peak_memory = 0
        self._exit_code = 1
        self._queue: LocalQueue | None = None
        self._has_reported = False
        self._telemetry: Telemetry  # while there are ranks
        self._handlers: dict[str, Callable[[Message], None]] = {
            "stop": lambda message: self._shutdown.stop(StopRequest.from_json(message["request"])),
            "warn": self._handle_warning,
            "failed": lambda message: self._shutdown.report_failure(Failure(**message["failure"])),
            "ended": self._handle_ended,
            "lost": self._handle_lost,
            "done": self._handle_done,
        }

    def main(self) -> int:
        """Run this node until it ends. Returns the exit code."""
        self._signals = SignalWaiter()
        os.environ["MLNB_GRACE"] = str(self._grace)
        self._deadline = self._new_deadline()
        folder.enter(self._info.cwd, self._run_dir)
        pid = os.getpid()
        identity, python = process_identity(pid), platform.python_version()
        self._events.add("started", pid=pid, identity=identity, host=self._host, python=python)
        self._check_cancelled()  # the run may have been cancelled before this process existed
        self._wait_for_resources()
        try:
            self._run()
            return self._finish()
        finally:
            self._rendezvous.close()
            if self._queue is not None:
                self._queue.release(self._info.id)

    def _new_deadline(self) -> Deadline:
        return Deadline(self._task.resources.time, job_environment.job_end(), self._grace)

    # signals, messages, cancellation

    def _wait(self, seconds: float) -> None:
        """Wait until a signal or a message arrives or the time is over; handle what arrived."""
        for number in self._signals.wait(seconds, self._rendezvous.filenos()):
            self._handle_signal(number)
        for message in self._rendezvous.receive():
            self._handlers[message["kind"]](message)

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGUSR1:
            out_of_time = self._deadline.remaining <= _TIME_WARNING
            reason = self._deadline.reason if out_of_time else "Warned by the batch system that the job will end"
            self._shutdown.warn(reason, f"SIGUSR1 was received{self._where}", out_of_time=out_of_time)
        elif number == signal.SIGTERM and not self._check_cancelled():
            reason = self._system_cause.reason() or "Stopped by the system, not through mlnb"
            self._shutdown.stop(StopRequest("failed", reason, f"SIGTERM was received{self._where}", by_system=True))

    def _check_cancelled(self) -> bool:
        """Stop if the run was cancelled. Returns whether it was."""
        cancel = read_json_fresh(self._run_dir.cancel)
        if cancel is not None:
            self._shutdown.stop(StopRequest("cancelled", f"cancelled by {cancel.get('by', 'its owner')}"))
        return cancel is not None

    def _handle_warning(self, message: Message) -> None:
        self._shutdown.warn(message["reason"], message["detail"], out_of_time=message["out_of_time"])

    def _handle_ended(self, message: Message) -> None:
        self._exits += [RankExit(**end) for end in message["ranks"]]
        self._peak_memory = max(self._peak_memory, message["peak"])

    def _handle_lost(self, message: Message) -> None:
        reason = f"node {message['node']} was lost ({message['host']})"
        self._shutdown.stop(StopRequest("failed", reason, can_resume=True))
        if message["node"] == 0:
            self._shutdown.lose_coordinator()

    def _handle_done(self, message: Message) -> None:
        self._exit_code = message["code"]

    # until the ranks run

    def _wait_for_resources(self) -> None:
        """Wait for cores and GPUs of this machine, if the target hands them out by a queue."""
        request = self._queue_request
        if not request:
            return
        self._queue = queue = LocalQueue.from_settings(request)
        try:
            self._wait_in(queue, self._info.id, request)
        except MlnbError as error:  # its folder can't be used
            self._shutdown.stop(StopRequest("failed", f"can't wait for cores and GPUs: {error}"))

    def _wait_in(self, queue: LocalQueue, run: str, request: Mapping[str, Any]) -> None:
        queue.take_over(run, request["cpus"], request["gpus"])
        while not self._shutdown.is_requested:
            devices = queue.acquire(run)
            if devices is not None:
                gpus.show_gpus(devices)
                break
            self._events.beat()
            self._check_cancelled()
            waiting = queue.waiting_for(run)
            self._wait(0.03 * (1 + min(waiting[0] if waiting else 0, 30)))

    def _run(self) -> None:
        if not self._shutdown.is_requested:
            self._events.add("starting")
            launch.ignore_fork_warnings()
            with self._events.beating():
                error = preload(RANK_MODULES)
            self._wait(0)
            if error is not None:
                self._shutdown.stop(StopRequest("failed", f"{error}{self._where} (Python {sys.executable})"))
        guard = OrphanGuard()  # forked before there are connections, which it would keep open
        agreement = self._connect_nodes()
        if agreement is not None and not self._shutdown.is_requested:
            self._start_ranks(agreement, guard)
        self._watch()
        if self._start_time is not None:
            with contextlib.suppress(OSError, StorageError):
                write_json(self._files.machine(self._node), hardware.describe(self._telemetry.devices()))
        guard.dismiss()  # not if something above fails: then the guard has to kill the ranks

    def _connect_nodes(self) -> Agreement | None:
        """Wait for the other nodes. Returns ``None`` if the run has to stop before all are connected."""
        timeout = self._info.node.rendezvous_timeout
        end = time.monotonic() + timeout
        while not self._shutdown.is_requested:
            agreement = self._rendezvous.connect()
            if agreement is not None:
                return agreement
            missing = self._rendezvous.describe_missing() if time.monotonic() > end else ""
            if missing:
                self._shutdown.stop(StopRequest("failed", f"{missing} within {format_limit(timeout)}"))
            elif self._has_result():
                self._shutdown.stop(StopRequest("failed", "node 0 ended before this node connected"))
            self._events.beat()
            self._check_cancelled()
            self._wait(self._rendezvous.poll)
        return None

    def _has_result(self) -> bool:
        """Whether node 0 has written this attempt's result before this node connected."""
        return self._node > 0 and (read_json_fresh(self._run_dir.result) or {}).get("attempt", 0) >= self._attempt

    def _start_ranks(self, agreement: Agreement, guard: OrphanGuard) -> None:
        self._oom_kills = rank_exit.oom_kills()
        self._ranks.start(
            self._run_dir,
            self._info.id,
            self._task,
            attempt=self._attempt,
            agreement=agreement,
            cpus=self._info.node.threads,
            is_distributed=self._task.resources.world_size > 1 or bool((self._info.asked or {}).get("ranks")),
            guard=guard,
            close_in_child=self._rendezvous.close,
        )
        self._start_time = time.monotonic()
        if self._queue_request:  # the time in the queue doesn't count; a batch system counts from the job's start
            self._deadline = self._new_deadline()
        devices = gpus.job_gpus(self._task.resources.gpus or 0)  # initialises NVML, which must follow the forks
        self._events.add("running", ranks=self._ranks.pids, gpus=devices)
        self._telemetry = Telemetry(devices)
        if self._shutdown.has_warned:  # before there were ranks to warn
            self._ranks.send_signal(signal.SIGUSR1)

    # while the ranks run

    def _watch(self) -> None:
        next_sample = 0.0
        while True:
            self._reap()
            if self._node > 0 and not self._ranks and not self._has_reported:
                self._has_reported = True
                ranks = [asdict(end) for end in self._exits]  # with their reports: node 0 may not see this node's disk
                self._rendezvous.send("ended", ranks=ranks, peak=self._peak_memory)
            if not self._ranks and not self._shutdown.is_undecided and self._rendezvous.is_complete:
                break
            now = time.monotonic()
            if now >= next_sample:
                next_sample = now + _SAMPLE_INTERVAL
                self._check_all()
            self._shutdown.act()
            self._wait(min(next_sample, self._shutdown.next_time) - time.monotonic())

    def _check_all(self) -> None:
        """Do what is due once a second: heartbeat, cancellation, sample, memory, deadline."""
        self._events.beat()
        if self._queue is not None:
            self._queue.restore()
        self._check_cancelled()
        if not self._shutdown.is_requested and is_superseded(self._files):
            self._ranks.kill()  # without a checkpoint: the later attempt writes them now
            self._shutdown.stop(StopRequest("failed", "A later attempt of the run has started"))
        if self._ranks:
            sample = self._telemetry.sample(self._ranks.groups)
            self._peak_memory = self._telemetry.peak_memory
            self._events.add("sample", **sample)
            self._check_memory(sample["memory"])
        if self._node == 0:  # one clock for all nodes
            self._check_deadline()

    def _check_memory(self, sampled: int) -> None:
        limit = self._task.resources.memory
        if limit is None or sampled <= limit or self._shutdown.is_requested:
            return
        used = proportional_memory(self._ranks.groups)  # exact, but too slow for each sample
        if used > limit:
            allowed = f"--memory allows {format_size(limit)}"
            if self._target_chose_memory:
                allowed = f"the target chose {format_size(limit)}; more --memory may help"
            self._shutdown.stop(
                StopRequest("failed", f"Out of memory{self._where}: {format_size(used)} used, {allowed}")
            )
            self._shutdown.kill_now()  # the machine may run out of memory during a grace

    def _check_deadline(self) -> None:
        deadline = self._deadline
        if deadline.is_near and not self._shutdown.has_warned:
            detail = f"the ranks were warned {format_limit(deadline.remaining)} before the end"
            self._shutdown.warn(deadline.reason, detail, out_of_time=True)
        if deadline.has_passed:
            self._shutdown.stop(StopRequest("failed", deadline.reason, can_resume=True, out_of_time=True))

    @property
    def _target_chose_memory(self) -> bool:
        """Whether the memory limit is the target's or its site's, not the user's."""
        return "memory" in self._info.node.chosen

    def _reap(self) -> None:
        ended = self._ranks.reap()
        if ended:
            self._wait(0)  # a batch system signals ranks and node programs: this program's signals come first
        for rank, status in ended:
            end = RankExit.read(self._files, rank, status)
            self._exits.append(end)
            self._events.add("rank-ended", rank=rank, exit_code=end.code)
            if not end.succeeded and not self._shutdown.is_requested:
                failure = self._describe_failure(end)
                self._rendezvous.send("failed", failure=asdict(failure))
                if self._node == 0:
                    self._shutdown.report_failure(failure)

    def _describe_failure(self, end: RankExit) -> Failure:
        limit = self._task.resources.memory
        source = "the target chose" if self._target_chose_memory else "--memory is"
        failure = rank_exit.describe_failure(
            end,
            self._peak_memory,
            rank_exit.oom_kills() - self._oom_kills,
            where=self._where,
            memory_limit="" if limit is None else f"{source} {format_size(limit)}",
            alone=self._task.resources.world_size == 1,
        )
        if failure.error and self._where:
            return replace(failure, error={**failure.error, "node": self._node, "host": self._host})
        return failure

    # the end

    def _finish(self) -> int:
        if self._node > 0 or is_superseded(self._files):  # another program writes the result
            self._events.add("ended")
            return self._exit_code
        request = self._shutdown.request
        if request is not None and request.by_system:  # the log may tell the cause only after the signal
            request = replace(request, reason=self._system_cause.reason() or request.reason)
        outcome = decide_outcome(
            request,
            self._exits,
            self._task.resources.world_size,
            may_requeue=self._info.node.requeue,
            made_checkpoint=self._progress.made,
            resume_name=self._info.name if self._progress.any else "",
        )
        if outcome.state == INTERRUPTED:
            self._events.add(INTERRUPTED, reason=outcome.reason, detail=outcome.detail)
        else:
            self._events.add("ended", state=outcome.state, reason=outcome.reason)
            self._events.write_result(self._run_dir.result, self._result(outcome))
        if self._where:  # a launcher that sees one node exit with an error kills the others, and returns their code
            self._events.write_exit_code(self._run_dir.attempt(self._first).exit_code, outcome.program_code)
        self._rendezvous.send("done", code=outcome.program_code)
        return outcome.program_code

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        started = self._start_time
        return {
            **outcome.to_json(),
            "attempt": self._attempt,
            "ended": time.time(),
            "notes": collect_notes(outcome, self._exits, self._task.script),
            "peak_memory": None if started is None else self._peak_memory,  # of the node that used most
            "seconds": None if started is None else round(time.monotonic() - started, 3),
        }
