"""Processes by identity: a pid alone may be somebody else's tomorrow."""

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
    """Tells this machine since it was started from every other; empty where the system doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@functools.lru_cache(maxsize=1)
def pid_namespace() -> str:
    """What processes have in common that see each other: the machine since its start, and on it the PID namespace."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{boot_id()}:{namespace}"


def in_other_namespace(known: str) -> bool:
    """Whether the process that has ``known`` as its identity can't be seen from here, dead or alive."""
    return bool(known) and not known.startswith(f"{pid_namespace()}:")


def process_identity(pid: int) -> str | None:
    """What tells this process from every other that had or will have its pid; ``None`` if it is dead.

    A zombie counts as dead. It is the place, and the start time: on Linux in ticks (proc(5), field 22), elsewhere as
    ``ps`` gives it.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _ps_identity(pid)
    except OSError:
        return _ps_identity(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{pid_namespace()}:{fields[19]}"


def _ps_identity(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]  # from PATH: systems keep it in different places
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return None if done.returncode or state.startswith("Z") else f"{pid_namespace()}:{started.strip()}"


def is_alive(pid: int, known: str) -> bool:
    """Whether the process that had ``known`` as its identity lives."""
    return process_identity(pid) == known


def send_signal(pid: int, known: str, number: signal.Signals) -> bool:
    """Send a signal to the process known by its identity; whether it was there to take it."""
    if not is_alive(pid, known):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Signal a whole process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def wait_for_exit(pid: int, known: str, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for the process to end; whether it did."""
    end = time.monotonic() + timeout
    while is_alive(pid, known):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
