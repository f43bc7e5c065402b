"""Starts a run's container on this machine: waits for cores and GPUs, then replaces itself by the container engine.

``python -m mlnb.node.container_start RUN_DIR --attempt N [--after SHELL] -- COMMAND...`` runs on the host, outside the
image. Inside it, the node program could neither be seen in the local queue, if it has a PID namespace of its own, nor
get GPUs later than at its start. The process that waits keeps its pid and start time when it becomes the engine, so the
place in the queue is held for as long as the engine runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlnb.node.attempt.events import Events
from mlnb.node.machine.gpus import show_gpus
from mlnb.node.process.identity import is_alive, process_identity
from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, read_json_fresh
from mlnb.runinfo import RunInfo

_RESTORE_INTERVAL = 1.0
_CLEANUP_TIMEOUT = 60.0


def main() -> int:
    """Parse the command line, wait, and become the command; returns only if the run was cancelled or it can't start."""
    parser = argparse.ArgumentParser(prog="python -m mlnb.node.container_start")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--after", default="", help="shell that removes what may be left of the container")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    run_dir = RunDir(options.run_dir)
    settings = RunInfo.read(run_dir).node.queue or {}
    queue = LocalQueue.from_settings(settings)
    devices = _wait_for_turn(run_dir, options.attempt, queue, settings["cpus"], settings["gpus"])
    if devices is None:
        queue.release(run_dir.path.name)
        return 1
    show_gpus(devices)
    _fork_keeper(queue, run_dir.path.name, options.after)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the command would inherit that
    try:
        os.execvp(options.command[0], options.command)
    except OSError as error:
        sys.stderr.write(f"mlnb: {options.command[0]}: {error.strerror}\n")
        return 127


def _wait_for_turn(run_dir: RunDir, attempt: int, queue: LocalQueue, cpus: int, gpus: int) -> tuple[str, ...] | None:
    """The GPUs that the run is granted, by the names of CUDA_VISIBLE_DEVICES; ``None`` if it was cancelled."""
    run_id = run_dir.path.name
    heartbeat = Events(run_dir.attempt(attempt), 0)
    queue.take_over(run_id, cpus, gpus)
    while read_json_fresh(run_dir.cancel) is None:
        devices = queue.acquire(run_id)
        if devices is not None:
            return devices
        heartbeat.beat()
        waiting = queue.waiting_for(run_id)
        time.sleep(0.03 * (1 + min(waiting[0] if waiting else 0, 30)))
    return None


def _fork_keeper(queue: LocalQueue, run_id: str, after: str) -> None:
    """Fork a process that keeps this one's place in the queue until it ends, and then cleans up after the container.

    It restores the place if the queue's file is lost. It is no child of this process, which is going to be a program
    that may wait for its children.
    """
    engine = os.getpid(), process_identity(os.getpid()) or ""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _keep(queue, run_id, engine, after)
    finally:
        os._exit(0)


def _keep(queue: LocalQueue, run_id: str, engine: tuple[int, str], after: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    while is_alive(*engine):
        queue.restore()
        time.sleep(_RESTORE_INTERVAL)
    queue.release(run_id)
    if after:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["/bin/sh", "-c", after], timeout=_CLEANUP_TIMEOUT, check=False)


if __name__ == "__main__":
    sys.exit(main())
