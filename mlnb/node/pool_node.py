"""The main process of a pool's job: a fork server for node programs, and a Dask worker that passes requests to it.

The job runs ``python -m mlnb.node.pool_node FOLDER`` and lasts as long as this process. It ends when its worker has
left, because the pool was stopped or its daemon died, and the last run has ended. So no run depends on the pool's
scheduler.

The functions below :class:`PoolNode` run in the worker, when its scheduler calls them.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlnb.node import fork_server
from mlnb.node.attempt import job_environment
from mlnb.node.machine import gpus
from mlnb.node.process.identity import is_alive, send_signal
from mlnb.node.process.local_queue import LocalQueue
from mlnb.node.process.signal_wait import SignalWaiter
from mlnb.node.process.socket_request import send_request
from mlnb.rundir import read_json

WORKER_FILE = "worker.json"
"""File in the pool's folder, written by its daemon: ``worker`` (command line), ``name``, ``cpus`` and ``gpus``."""

_FOLDER_VARIABLE = "MLNB_POOL"
_SOCKET, _READY_FILE = "parent.sock", "ready"
_REQUEST_TIMEOUT = 10.0
"""Seconds that the fork server has to answer."""


class PoolNode:
    """The job's main process.

    Parameters
    ----------
    folder
        the pool's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._config = read_json(folder / WORKER_FILE) or {}
        self._signals = SignalWaiter()
        # on the node's own disk, where locks and sockets work
        self._folder = Path(tempfile.mkdtemp(prefix="mlnb-pool-"))
        self._programs: set[int] = set()
        self._worker_starts = 0
        self._stopping = False

    def main(self) -> int:
        """Serve until the worker has left and the last run has ended."""
        try:
            listener = fork_server.listen(self._folder / _SOCKET)
            if listener is None:
                raise RuntimeError(f"another process listens in {self._folder}")
            with listener:
                self._serve(listener)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return 0

    def _serve(self, listener: socket.socket) -> None:
        defaults = {"env": dict(os.environ), "queue": self._queue_settings()}
        worker = self._start_worker()  # before the imports: both take seconds
        imported = fork_server.import_all()
        (self._folder / _READY_FILE).touch()
        while True:
            for number in self._signals.wait(1.0, [listener.fileno()]):
                self._handle_signal(signal.Signals(number), worker)
            if select.select([listener], [], [], 0)[0]:
                is_fresh = not imported.have_changed()
                pid = fork_server.fork_node_program(listener, defaults, is_fresh=is_fresh)
                self._programs |= set() if pid is None else {pid}
            self._reap()
            code = worker.poll()
            if code is not None and code < 0 and not self._stopping:  # killed; without a scheduler it would have exited
                worker = self._start_worker()
            elif code is not None and not self._programs:
                return

    def _queue_settings(self) -> dict[str, Any]:
        """The queue that runs share: the allocation's cores and GPUs, named as the batch system names them."""
        names = gpus.visible_gpus() or [str(index) for index in range(self._config["gpus"])]
        return {"folder": str(self._folder), "cpus_total": self._config["cpus"], "gpus_total": list(names)}

    def _start_worker(self) -> subprocess.Popen[bytes]:
        # a new name for each start: the scheduler may not have noticed yet that the last worker is gone
        name = f"{self._config['name']}.{job_environment.restart_count(None)}.{self._worker_starts}"
        self._worker_starts += 1
        command = [*self._config["worker"], "--name", name, "--local-directory", str(self._folder)]
        env = {**os.environ, _FOLDER_VARIABLE: str(self._folder), "DASK_LOGGING__DISTRIBUTED": "warning"}
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)

    def _handle_signal(self, number: signal.Signals, worker: subprocess.Popen[bytes]) -> None:
        """Pass on the signals that the batch system sends to this process alone."""
        if number in (signal.SIGTERM, signal.SIGUSR1):
            for pid in self._programs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        if number == signal.SIGTERM:
            self._stopping = True
            worker.terminate()

    def _reap(self) -> None:
        for pid in tuple(self._programs):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._programs.discard(pid)


# called in the worker


def _folder() -> Path:
    return Path(os.environ[_FOLDER_VARIABLE])


def start_run(request: dict[str, Any]) -> dict[str, Any]:
    """Start a run (``run``, ``attempt``, ``env``). Returns ``pid`` and ``identity`` of its node program."""
    return send_request(_folder() / _SOCKET, request, _REQUEST_TIMEOUT)


def pool_status(runs: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """The state of the job, and of ``runs`` (id → pid and identity of the node program).

    Returns
    -------
    dict
        ``job_start``, an id of this start of the job; ``ready``, whether runs can be started; ``host``; ``ends``, when
        the job will end, in seconds since the epoch; ``alive``, the runs whose node program lives: for each, the number
        of runs that wait ahead of it and the runs that hold what it waits for, or ``None`` if it does not wait.
    """
    queue = LocalQueue(_folder(), 0)
    alive = {run: queue.waiting_for(run) for run, process in runs.items() if is_alive(*process)}
    ready = (_folder() / _READY_FILE).exists()
    return {
        "job_start": str(_folder()),
        "ready": ready,
        "host": job_environment.host_name(),
        "ends": job_environment.job_end(),
        "alive": alive,
    }


def signal_run(pid: int, identity: str, number: int) -> bool:
    """Send a signal to a node program. Returns whether it was alive."""
    return send_signal(pid, identity, signal.Signals(number))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m mlnb.node.pool_node FOLDER")
    sys.exit(PoolNode(Path(sys.argv[1])).main())
