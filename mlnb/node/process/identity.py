"""Identify processes across machines and reboots: a pid alone may belong to another process tomorrow."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from pathlib import Path


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's random id of this boot (random(4)); empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@functools.lru_cache(maxsize=1)
def pid_namespace() -> str:
    """An id shared by all processes that see each other's pids: boot id and PID namespace (pid_namespaces(7))."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{boot_id()}:{namespace}"


def in_other_namespace(identity: str) -> bool:
    """Whether the process with this identity can't be seen from here, dead or alive."""
    return bool(identity) and not identity.startswith(f"{pid_namespace()}:")


def process_identity(pid: int) -> str | None:
    """A string that no other process ever has, whatever its pid; ``None`` if the process is dead.

    It joins :func:`pid_namespace` and the start time: on Linux in clock ticks (proc(5), field 22), elsewhere as ``ps``
    prints it. A zombie counts as dead.
    """
    try:
        fields = process_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _ps_identity(pid)
    except OSError:
        return _ps_identity(pid)
    return None if fields[0] in "ZX" else f"{pid_namespace()}:{fields[19]}"


def process_stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the process's name (proc(5)): the first is its state.

    Raises
    ------
    OSError
        if there is no such process, or no ``/proc``.
    """
    data = Path(f"/proc/{pid}/stat").read_bytes()  # the name may be any bytes, brackets included
    return data.rpartition(b")")[2].decode().split()


def _ps_identity(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]  # from PATH: systems install ps in different places
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return None if done.returncode or state.startswith("Z") else f"{pid_namespace()}:{started.strip()}"


def is_alive(pid: int, identity: str) -> bool:
    """Whether the process with this pid and identity is alive."""
    return process_identity(pid) == identity


def send_signal(pid: int, identity: str, number: signal.Signals) -> bool:
    """Send a signal to a process, unless another process has its pid now. Returns whether it was sent."""
    if not is_alive(pid, identity):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Send a signal to a process group; a group that has ended is ignored."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def wait_for_exit(pid: int, identity: str, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for a process to end. Returns whether it has."""
    end = time.monotonic() + timeout
    while is_alive(pid, identity):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
