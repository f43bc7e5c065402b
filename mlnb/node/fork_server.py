"""The fork server: it has imported torch and forks node programs, so that runs start in milliseconds.

It has done nothing but import: no torch operation, no CUDA, no threads, no session state. A forked node program is as
clean as a new interpreter. The fork server survives the notebook's kernel, and exits when it has been idle for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mlnb.errors import MlnbError
from mlnb.node.machine import hardware
from mlnb.node.process.identity import process_identity
from mlnb.node.process.imported_files import ImportedFiles
from mlnb.node.process.local_queue import LocalQueue
from mlnb.node.process.preload import ALL_MODULES, preload
from mlnb.node.process.socket_request import is_same_user
from mlnb.rundir import RunDir
from mlnb.runinfo import RunInfo

IDLE_TIMEOUT = 15 * 60.0
"""Seconds without a request and without a run after which the fork server exits."""

_HASH_SEED = "PYTHONHASHSEED"
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGUSR1}


def serve(path: Path, idle: float = IDLE_TIMEOUT) -> int:
    """Serve requests on the Unix socket ``path`` until none has come and no run is left for ``idle`` seconds.

    A request is one JSON line: ``run`` (directory), ``attempt``, ``env`` (the run's complete environment, which is
    never written to disk). The answer is one JSON line: ``pid`` and ``identity`` of the node program.
    """
    listener = listen(path)
    if listener is None:
        return 0  # another fork server was faster
    imported = import_all()
    inode = path.stat().st_ino
    last_used, children = time.monotonic(), 0
    while children or time.monotonic() - last_used < idle:
        ready, _, _ = select.select([listener], [], [], 1.0 if children else min(30.0, idle))
        children -= _reap()
        if ready and imported.have_changed():
            path.unlink(missing_ok=True)  # the next run gets another fork server
            while ready:
                fork_node_program(listener, is_fresh=False)
                ready, _, _ = select.select([listener], [], [], 0)
            return 0
        if ready and fork_node_program(listener):
            children += 1
            last_used = time.monotonic()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:
                continue
        break  # the socket was removed or replaced: no process can reach this one any more
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()
    return 0


def import_all() -> ImportedFiles:
    """Import all modules, and cache all package versions, that node programs and ranks need.

    Returns
    -------
    ImportedFiles
        tells whether what was imported has been replaced since.
    """
    own = {"", str(Path.cwd())}  # ``python -m`` puts it first; nothing is installed there, and each run changes it
    sys.path[:] = [folder for folder in sys.path if folder not in own]
    hardware.packages()
    preload(ALL_MODULES)
    return ImportedFiles(on_install=hardware.packages.cache_clear)


def listen(path: Path) -> socket.socket | None:
    """Listen on a Unix socket at ``path``; ``None`` if one exists already."""
    listener = socket.socket(socket.AF_UNIX)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a killed process may have had this pid
    try:
        listener.bind(str(temporary))
        listener.listen(256)
        os.link(temporary, path)  # atomic, and fails if the path exists
    except FileExistsError:
        listener.close()
        return None
    except OSError:
        listener.close()
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return listener


def _reap() -> int:
    """Reap the node programs that have ended. Returns their number."""
    ended = 0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            ended += 1
    return ended


def fork_node_program(
    listener: socket.socket, defaults: Mapping[str, Any] | None = None, *, is_fresh: bool = True
) -> int | None:
    """Accept one request and fork the node program for it.

    Parameters
    ----------
    defaults
        for all requests: ``env``, which a request's own variables override, and ``queue``, the settings of the queue
        for cores and GPUs.
    is_fresh
        whether what this process has imported is what is installed. If not, the node program is a new interpreter.

    Returns
    -------
    int or None
        the node program's pid; ``None`` if the request was invalid.
    """
    connection, _ = listener.accept()
    with connection:
        if not is_same_user(connection):
            return None
        connection.settimeout(5.0)
        try:
            request = json.loads(connection.makefile("rb").readline())
        except (OSError, ValueError):
            return None
        if not _is_request(request):
            return None
        if defaults is not None:
            env = {**defaults["env"], **request["env"]}
            request = {**request, "env": env, "queue": defaults["queue"]}
        # until the child has closed it, its signals would be written into the parent's wakeup pipe
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
                listener.close()
                connection.close()
                _run_node_program(request, is_fresh)
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        identity = process_identity(pid) or ""
        _enqueue(request, pid, identity)
        with contextlib.suppress(OSError):  # the client did not wait
            connection.sendall(json.dumps({"pid": pid, "identity": identity}).encode() + b"\n")
    return pid


def _is_request(request: object) -> bool:
    """Whether a line that was received has what :func:`serve` describes."""
    kinds = {"run": str, "attempt": int, "env": dict}
    return isinstance(request, dict) and all(isinstance(request.get(key), kind) for key, kind in kinds.items())


def _enqueue(request: Mapping[str, Any], pid: int, identity: str) -> None:
    """Add a run to the queue for cores and GPUs, so that runs are served in the order of their requests.

    In the name of its node program, and of no process that lives longer: its entry must not block the queue when the
    node program has ended, be it before it has come so far as to wait.
    """
    run = RunDir(request["run"])
    with contextlib.suppress(MlnbError, OSError, KeyError):  # the run was removed; or the node program adds it itself
        settings = RunInfo.read(run).node.queue_request(request.get("queue"))
        if settings:
            queue = LocalQueue.from_settings(settings)
            queue.enqueue(run.path.name, settings["cpus"], settings["gpus"], pid, identity)


def _run_node_program(request: dict[str, Any], is_fresh: bool) -> None:
    """Run the node program in this forked process, and exit."""
    hash_seed = os.environ.get(_HASH_SEED)
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    run_dir, attempt = RunDir(request["run"]), int(request["attempt"])
    if not run_dir.run.exists():
        return  # the submission has failed and removed the directory
    output = run_dir.attempt(attempt).path
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    redirect(output / "node-0.log")
    if not is_fresh or os.environ.get(_HASH_SEED) != hash_seed:  # which Python reads only when it starts
        _start_anew(run_dir, attempt, request.get("queue"))
    from mlnb.node.attempt import lock as attempt_lock
    from mlnb.node.program import NodeProgram

    owner = attempt_lock.acquire(run_dir.attempt(attempt), 0)
    if owner is not None:
        sys.stderr.write(f"mlnb: {attempt_lock.conflict_message(run_dir.attempt(attempt), owner)}\n")
        sys.stderr.flush()
        return

    code = 1
    try:
        code = NodeProgram(run_dir, 0, attempt, queue=request.get("queue")).main()
    except BaseException:  # noqa: BLE001 - for the node's log
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _start_anew(run_dir: RunDir, attempt: int, queue: Mapping[str, Any] | None) -> NoReturn:
    """Replace this process by a new interpreter that runs the node program. Its pid stays the same."""
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(run_dir.node_zip), *others])
    os.chdir(run_dir.path)
    command = [sys.executable, "-m", "mlnb.node", str(run_dir.path), "--attempt", str(attempt)]
    os.execv(command[0], [*command, *(["--queue", json.dumps(queue)] if queue else [])])


def redirect(log: Path) -> None:
    """Append this process's standard output and error to ``log``."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(serve(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_TIMEOUT))
