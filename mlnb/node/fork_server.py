"""The warm parent: a process with torch imported that forks node programs, so that a run starts in milliseconds.

It has imported torch and done nothing else: no operation run, no CUDA, no threads, no session state, so that what
it forks is as fresh as a new interpreter. It lives on when the kernel dies and ends by itself when unused.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.node.machine import hardware
from mlnb.node.process.identity import process_identity
from mlnb.node.process.preload import ALL_MODULES, preload
from mlnb.rundir import RunDir

IDLE_TIMEOUT = 15 * 60.0
"""Seconds without a request and without a run after which the warm parent ends."""

_ENDING = {signal.SIGTERM, signal.SIGUSR1}


def serve(path: Path, idle: float = IDLE_TIMEOUT) -> int:
    """Take requests on the Unix socket ``path`` until nobody has needed it for ``idle`` seconds.

    A request is one JSON line: ``run`` (directory), ``attempt``, ``env`` (the whole environment of the run, which
    is written nowhere). The answer is one JSON line: ``pid`` and ``identity`` of the node program.
    """
    listener = listen(path)
    if listener is None:
        return 0  # another one was faster
    import_all()
    mine = path.stat().st_ino
    last, children = time.monotonic(), 0
    while children or time.monotonic() - last < idle:
        ready, _, _ = select.select([listener], [], [], 1.0 if children else min(30.0, idle))
        children += _reap()
        if ready and fork_node_program(listener):
            children += 1
            last = time.monotonic()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == mine:
                continue
        break  # the socket was taken away: nobody can reach this process any more
    with contextlib.suppress(OSError):
        if path.stat().st_ino == mine:
            path.unlink()
    return 0


def import_all() -> None:
    """Import and read what node programs and ranks need, so that they find it there."""
    hardware.packages()
    preload(ALL_MODULES)


def listen(path: Path) -> socket.socket | None:
    """Listen on a Unix socket at ``path``; ``None`` where one is there already."""
    listener = socket.socket(socket.AF_UNIX)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    listener.bind(str(temporary))
    listener.listen(256)
    try:
        os.link(temporary, path)  # atomic, and fails where one is there already
    except FileExistsError:
        return None
    finally:
        temporary.unlink()
    return listener


def _reap() -> int:
    """Collect ended node programs; minus their number."""
    ended = 0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            ended -= 1
    return ended


def fork_node_program(listener: socket.socket, known: Mapping[str, Any] | None = None) -> int | None:
    """Take one request and fork the node program that it asks for; its pid, ``None`` if it was no request.

    Parameters
    ----------
    known
        what holds for all runs here: ``env``, which a request's own goes over, and ``slots``.
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
        if known is not None:
            request = {**request, "env": {**known["env"], **request["env"]}, "slots": known["slots"]}
        # a signal for the child must not be written into a pipe by which the parent is woken
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
                listener.close()
                connection.close()
                _become_node(request)
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        with contextlib.suppress(OSError):
            answer = {"pid": pid, "identity": process_identity(pid)}
            connection.sendall(json.dumps(answer).encode() + b"\n")
    return pid


def is_same_user(connection: socket.socket) -> bool:
    """Whether whoever is at the other end of a Unix socket is this process's own user."""
    if not hasattr(socket, "SO_PEERCRED"):  # the folder's mode 0700 guards it there
        return True
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", data)[1] == os.getuid())


def _become_node(request: dict[str, Any]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    run_dir, attempt = RunDir(request["run"]), int(request["attempt"])
    if not run_dir.run.exists():
        return  # its submission failed meanwhile and took the directory away
    output = run_dir.attempt(attempt).path
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    redirect(output / "node-0.log")
    from mlnb.node.attempt import lock as attempt_lock
    from mlnb.node.program import NodeProgram

    other = attempt_lock.acquire(run_dir.attempt(attempt), 0)
    if other is not None:  # who counts the attempts knows what to do
        sys.stderr.write(f"mlnb: {attempt_lock.conflict_message(run_dir.attempt(attempt), other)}\n")
        sys.stderr.flush()
        return

    code = 1
    try:
        program = NodeProgram(run_dir, 0, attempt)
        if "slots" in request:
            program.about["slots"] = {**program.about.get("slots", {}), **request["slots"]}
        code = program.main()
    except BaseException:  # noqa: BLE001 - to the node's log, there is nobody else to tell
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def redirect(log: Path) -> None:
    """Make ``log`` this process's standard output and error."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(serve(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_TIMEOUT))
