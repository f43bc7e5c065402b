"""A pool's place on its node: a warm parent that forks node programs, and beside it the worker that asks it to.

It is what the pool's job runs (``python -m mlnb.node.pool_node FOLDER``), and the job lasts as long as it does:
until its worker has left, because the pool is over or its holder died, and the last run that it started has ended. So
no run hangs on the pool's scheduler.

The functions below run in the worker, at its scheduler's request.
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
"""In the pool's folder, written by its holder: ``worker`` (command line), ``name``, ``cpus`` and ``gpus``."""

_PLACE = "MLNB_POOL"
_SOCKET, _READY = "parent.sock", "ready"
_ANSWER = 10.0


class PoolNode:
    """The job's own process.

    Parameters
    ----------
    folder
        of the pool.
    """

    def __init__(self, folder: Path) -> None:
        self._about = read_json(folder / WORKER_FILE) or {}
        self._wakeup = SignalWaiter()
        # on the node's own disk: locks and sockets are safe there
        self._place = Path(tempfile.mkdtemp(prefix="mlnb-pool-"))
        self._nodes: set[int] = set()
        self._workers = 0
        self._told = False

    def main(self) -> int:
        """Serve until the worker has left and the last run has ended."""
        try:
            listener = fork_server.listen(self._place / _SOCKET)
            if listener is None:
                raise RuntimeError(f"someone listens in {self._place}")
            with listener:
                self._serve(listener)
        finally:
            shutil.rmtree(self._place, ignore_errors=True)
        return 0

    def _serve(self, listener: socket.socket) -> None:
        known = {"env": dict(os.environ), "slots": self._slots()}
        worker = self._start_worker()  # before torch: both take seconds
        fork_server.import_all()
        (self._place / _READY).touch()
        while True:
            for number in self._wakeup.sleep(1.0, [listener.fileno()]):
                self._heed(signal.Signals(number), worker)
            if select.select([listener], [], [], 0)[0]:
                pid = fork_server.fork_node_program(listener, known)
                self._nodes |= set() if pid is None else {pid}
            self._reap()
            code = worker.poll()
            if code is not None and code < 0 and not self._told:  # killed; had it lost its scheduler it would have left
                worker = self._start_worker()
            elif code is not None and not self._nodes:
                return

    def _slots(self) -> dict[str, Any]:
        """What runs share: the allocation's cores, and its GPUs by the names that the system gave them."""
        names = gpus.visible_gpus() or [str(index) for index in range(self._about["gpus"])]
        return {"folder": str(self._place), "cpus_total": self._about["cpus"], "gpus_total": list(names)}

    def _start_worker(self) -> subprocess.Popen[bytes]:
        # a name of its own for each start: a scheduler that has not missed the last one yet refuses its name
        name = f"{self._about['name']}.{job_environment.restart_count(None)}.{self._workers}"
        self._workers += 1
        command = [*self._about["worker"], "--name", name, "--local-directory", str(self._place)]
        env = {**os.environ, _PLACE: str(self._place), "DASK_LOGGING__DISTRIBUTED": "warning"}
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)

    def _heed(self, number: signal.Signals, worker: subprocess.Popen[bytes]) -> None:
        """Hand on what the system tells this process alone."""
        if number in (signal.SIGTERM, signal.SIGUSR1):
            for pid in self._nodes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        if number == signal.SIGTERM:
            self._told = True
            worker.terminate()

    def _reap(self) -> None:
        for pid in tuple(self._nodes):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._nodes.discard(pid)


# in the worker


def _here() -> Path:
    return Path(os.environ[_PLACE])


def start_run(request: dict[str, Any]) -> dict[str, Any]:
    """Start a run (``run``, ``attempt``, ``env``): ``pid`` and ``identity`` of its node program."""
    return send_request(_here() / _SOCKET, request, _ANSWER)


def pool_status(runs: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """Whether runs can be started, until when the job may last, and how ``runs`` (id → process) are.

    ``place`` is another one for each start of the job, and the same whichever worker tells of it.

    Of each run that lives: how many wait ahead of it and who holds what it waits for; ``None`` if it does not wait.
    """
    slots = LocalQueue(_here(), 0)
    alive = {run: slots.waiting_for(run) for run, process in runs.items() if is_alive(*process)}
    ready = (_here() / _READY).exists()
    return {
        "place": str(_here()),
        "ready": ready,
        "host": job_environment.host_name(),
        "ends": job_environment.deadline(),
        "alive": alive,
    }


def signal_run(pid: int, identity: str, number: int) -> bool:
    """Send a signal to a node program; whether it was there."""
    return send_signal(pid, identity, signal.Signals(number))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m mlnb.node.pool_node FOLDER")
    sys.exit(PoolNode(Path(sys.argv[1])).main())
