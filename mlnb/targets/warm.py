"""Finding, starting and asking the warm parent (``mlnb.node.fork_server``)."""

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
from collections.abc import Mapping
from pathlib import Path

from mlnb.node.process.identity import process_identity, send_signal
from mlnb.rundir import RunDir, write_atomic
from mlnb.targets.config import paths
from mlnb.targets.environment import passed
from mlnb.targets.node_zip import node_zip

ANSWER = 0.3
"""Seconds to wait for the node program's pid: a warm parent answers in a few milliseconds, one that is still
importing torch will take the request later, and nobody should wait for that."""

_START = 10.0


def socket_path() -> Path:
    """The warm parent's socket: another one for another Python, other packages or another mlnb."""
    key = "\0".join([sys.executable, node_zip().digest, os.environ.get("PYTHONPATH", "")])
    return paths.socket_path(f"warm-{hashlib.sha256(key.encode()).hexdigest()[:12]}.sock")


def start() -> Path:
    """Start a warm parent unless one listens; its socket, which may appear a little later."""
    path = socket_path()
    if _listens(path):
        return path
    with contextlib.suppress(OSError):
        path.unlink()  # its process is gone
    process = subprocess.Popen(
        [sys.executable, "-m", "mlnb.node.fork_server", str(path)],
        env=with_node_zip(passed({}), installed()),
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    reap(process)
    return path


def stop() -> bool:
    """End the warm parent; runs that it has started go on. Whether there was one."""
    client = _connect(socket_path(), patience=0.0)
    if client is None:
        return False
    with client:
        pid = _peer(client)
    socket_path().unlink(missing_ok=True)
    known = process_identity(pid) if pid else None
    return bool(pid and known and send_signal(pid, known, signal.SIGTERM))


def submit(run: RunDir, attempt: int, env: Mapping[str, str]) -> int | None:
    """Have the warm parent start the node program of ``run``.

    Returns
    -------
    int or None
        the node program's pid; the warm parent's own while it still imports torch; ``None`` if there is none.
    """
    path = start()
    client = _connect(path)
    if client is None:
        return None
    with client:
        request = {"run": str(run.path), "attempt": attempt, "env": dict(env)}
        client.sendall(json.dumps(request).encode() + b"\n")
        client.settimeout(ANSWER)
        try:
            return int(json.loads(client.makefile("rb").readline())["pid"])
        except (OSError, ValueError, KeyError):
            parent = _peer(client)
            return parent if parent is not None and process_identity(parent) else None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _connect(path: Path, patience: float = _START) -> socket.socket | None:
    end = time.monotonic() + patience
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
        else:
            return client
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


def _peer(client: socket.socket) -> int | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[0])


def installed() -> Path:
    """The node zip as a file in the runtime folder, for processes that belong to no run; written if missing."""
    path = paths.runtime_dir() / f"mlnb-{node_zip().digest[:12]}.zip"
    if not path.exists():
        write_atomic(path, node_zip().data)
    return path


def with_node_zip(env: Mapping[str, str], archive: Path) -> dict[str, str]:
    """``env`` with the node program's zip in front of everything on the import path."""
    others = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**env, "PYTHONPATH": os.pathsep.join([str(archive), *others])}


def reap(process: subprocess.Popen[bytes]) -> None:
    """Collect a detached child when it ends, so that this process keeps no zombie."""
    threading.Thread(target=process.wait, name="mlnb-reap", daemon=True).start()
