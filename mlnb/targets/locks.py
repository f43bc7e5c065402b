"""Locks between the processes of a user on one machine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
"""How a file that is only locked is opened."""


def try_lock(path: Path) -> int | None:
    """Lock the file at ``path``, made if needed; ``None`` if another process holds the lock.

    The lock is held until the returned file descriptor is closed. The file's modification time is when it was locked.
    """
    file = os.open(path, OPEN_FLAGS, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    os.utime(file)
    return file
