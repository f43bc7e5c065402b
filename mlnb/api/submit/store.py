"""A content-addressed store: input data is stored once, and hard-linked into each run that uses it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from mlnb.capture.ship.contents import Content
from mlnb.errors import storage_errors
from mlnb.rundir import temporary_path

_BEING_USED = 3600.0
"""Seconds within which a file that no run uses may be on its way into one."""


class Store:
    """Content-addressed files under ``root``/.store."""

    def __init__(self, root: Path) -> None:
        self._folder = root / ".store"
        self._new: list[Path] = []

    def put(self, content: Content, path: Path) -> None:
        """Make ``path`` a file with this content, which is written only if the store lacks it.

        Raises
        ------
        StorageError
            if it can't be written; then the store is unchanged.
        """
        digest = content.digest()
        stored = self._folder / digest[:2] / digest
        with storage_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not _link(stored, path, content.size):  # again if another process has removed it in between
                self._write(content, stored)

    def _write(self, content: Content, stored: Path) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stored.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = temporary_path(stored)
        try:
            content.write(temporary)
            temporary.chmod(0o400)
            temporary.replace(stored)
            self._new.append(stored)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def undo(self) -> None:
        """Remove what this object has stored and no run uses, after a submission has failed."""
        for path in self._new:
            with contextlib.suppress(OSError):
                if path.stat().st_nlink == 1:
                    path.unlink()

    def sweep(self, min_age: float = _BEING_USED) -> int:
        """Remove files that no run uses any more; returns how many bytes were freed.

        Files younger than ``min_age`` seconds stay: a run that is being submitted may use them.
        """
        freed, now = 0, time.time()
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
                info = path.stat()
                age = _BEING_USED if path.name.startswith(".") else min_age  # a temporary file is being written
                if info.st_nlink == 1 and info.st_mtime <= now - age:
                    path.unlink()
                    freed += info.st_size
        return freed


def _link(stored: Path, path: Path, size: int) -> bool:
    """Make ``path`` a link to a stored file, or a copy of it; returns whether it was there with this size.

    After a power failure, a file may be there without its content.
    """
    try:
        if stored.stat().st_size != size:
            return False
        try:
            os.link(stored, path)
        except FileNotFoundError:
            raise
        except OSError:  # the file system has no hard links, or this file has too many
            shutil.copyfile(stored, path)
            path.chmod(0o400)
    except FileNotFoundError:
        return False
    return True
