"""Locks between the processes of a user on one machine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
"""How a file that is only locked is opened."""


def taken(path: Path) -> int | None:
    """The lock, held until it is closed, and since its file's time; ``None`` if somebody holds it."""
    file = os.open(path, FLAGS, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    os.utime(file)
    return file
