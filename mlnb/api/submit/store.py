"""Data by content: stored once under the runs' root, linked into every run that uses it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlnb.rundir import storage_errors, temporary_path


class Content(Protocol):
    """Something that can be written to a file and is known by its SHA-256."""

    @property
    def size(self) -> int:
        """Bytes."""

    def digest(self) -> str:
        """SHA-256, hexadecimal; computed once."""

    def write(self, path: Path) -> None:
        """Write it to ``path``."""


@dataclass(frozen=True)
class Bytes:
    """A small :class:`Content` in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def digest(self) -> str:
        """SHA-256, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def write(self, path: Path) -> None:
        """Write it to ``path``."""
        path.write_bytes(self.data)


class Store:
    """Content-addressed files under ``root``/.store."""

    def __init__(self, root: Path) -> None:
        self._folder = root / ".store"
        self._new: list[Path] = []

    def put(self, content: Content, path: Path) -> None:
        """Make ``path`` a file with this content; stored and written only if it isn't there yet.

        Raises
        ------
        StorageError
            if it can't be written; what was there before stays as it was.
        """
        digest = content.digest()
        stored = self._folder / digest[:2] / digest
        with storage_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not stored.exists():
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
            try:
                os.link(stored, path)
            except OSError:  # no hard links there, or too many
                shutil.copyfile(stored, path)
                path.chmod(0o400)

    def undo(self) -> None:
        """Remove what was stored by this object and is used by no run: its run was not submitted after all."""
        for path in self._new:
            with contextlib.suppress(OSError):
                if path.stat().st_nlink == 1:
                    path.unlink()

    def sweep(self, min_age: float = 3600.0) -> int:
        """Remove what no run uses any more; the bytes that became free.

        What was stored less than ``min_age`` seconds ago may be on its way into a run, and stays.
        """
        freed, before = 0, time.time() - min_age
        for path in self._folder.glob("??/*"):
            info = path.stat()
            if info.st_nlink == 1 and info.st_mtime <= before:
                path.unlink()
                freed += info.st_size
        return freed
