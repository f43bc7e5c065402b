"""Finds, starts and calls the fork server (``mlnb.node.fork_server``), which has torch imported for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlnb.node.process.identity import process_identity, send_signal
from mlnb.node.process.socket_request import is_same_user
from mlnb.rundir import RunDir, write_atomic
from mlnb.targets.environment import run_environment
from mlnb.targets.node_zip import node_zip
from mlnb.workspace import RUNTIME_VARIABLE, Workspace

ANSWER_TIMEOUT = 0.3
"""Seconds to wait for the node program's pid. A fork server answers in a few milliseconds, unless it is still importing
torch; then it reads the request later, and submission does not wait."""

_START_TIMEOUT = 10.0
"""Seconds to wait for the socket of a fork server that was just started."""


def socket_path(workspace: Workspace) -> Path:
    """The path of the fork server's socket.

    It differs by Python, ``PYTHONPATH`` and mlnb's code. That what the fork server has imported is still what is
    installed, it sees itself.
    """
    key = "\0".join([sys.executable, node_zip().digest, os.environ.get("PYTHONPATH", "")])
    return workspace.socket_path(f"warm-{hashlib.sha256(key.encode()).hexdigest()[:12]}.sock")


def start(workspace: Workspace) -> Path:
    """Start a fork server unless one listens; returns the path of its socket, which may appear a little later."""
    path = socket_path(workspace)
    if _listens(path):
        return path
    with contextlib.suppress(OSError):
        path.unlink()  # left by a process that is gone
    process = subprocess.Popen(
        [sys.executable, "-m", "mlnb.node.fork_server", str(path)],
        env=with_node_zip(run_environment({}, workspace), installed_node_zip(workspace)),
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    reap(process)
    return path


def stop(workspace: Workspace) -> bool:
    """End the fork server; returns whether there was one. Runs that it has started continue."""
    path = socket_path(workspace)
    client = _connect(path, patience=0.0)
    if client is None:
        return False
    with client:
        pid = _peer(client)
    path.unlink(missing_ok=True)
    identity = process_identity(pid) if pid else None
    return bool(pid and identity and send_signal(pid, identity, signal.SIGTERM))


def submit(run: RunDir, attempt: int, env: Mapping[str, str], workspace: Workspace) -> int | None:
    """Have the fork server start the node program of ``run``, with the environment ``env``.

    Returns
    -------
    int or None
        the node program's pid; that of the fork server while it still imports torch; ``None`` if there is none.
    """
    path = start(workspace)
    client = _connect(path)
    if client is None:
        return None
    with client:
        request = {"run": str(run.path), "attempt": attempt, "env": dict(env)}
        client.sendall(json.dumps(request).encode() + b"\n")
        client.settimeout(ANSWER_TIMEOUT)
        try:
            return int(json.loads(client.makefile("rb").readline())["pid"])
        except (OSError, ValueError, KeyError):
            server = _peer(client)
            return server if server is not None and process_identity(server) else None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _connect(path: Path, patience: float = _START_TIMEOUT) -> socket.socket | None:
    """Connect within ``patience`` seconds; ``None`` if no fork server listens."""
    end = time.monotonic() + patience
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
        else:
            if is_same_user(client):  # the request has the values of --env
                return client
            client.close()
            return None
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


def _peer(client: socket.socket) -> int | None:
    """The pid of the process at the other end; ``None`` where the system doesn't tell it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[0])


def installed_node_zip(workspace: Workspace) -> Path:
    """The node zip as a file in the runtime folder, for processes that belong to no run; written if missing."""
    path = workspace.runtime_dir() / f"mlnb-{node_zip().digest[:12]}.zip"
    if not path.exists():
        write_atomic(path, node_zip().data, variable=RUNTIME_VARIABLE)
    return path


def with_node_zip(env: Mapping[str, str], archive: Path) -> dict[str, str]:
    """``env`` with the node zip ``archive`` first in ``PYTHONPATH``."""
    others = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**env, "PYTHONPATH": os.pathsep.join([str(archive), *others])}


def start_detached(command: Sequence[str], env: Mapping[str, str], run: RunDir, attempt: int) -> int:
    """Start a run's process in a new process session, so that it outlives this process; returns its pid.

    Its ``PYTHONPATH`` has the run's node zip, its working directory is the run's, and its output is the log of node 0.
    """
    with (run.attempt(attempt).path / "node-0.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=with_node_zip(env, run.node_zip),
            cwd=run.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    reap(process)
    return process.pid


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a detached child in a thread, so that it leaves no zombie."""
    threading.Thread(target=process.wait, name="mlnb-reap", daemon=True).start()
