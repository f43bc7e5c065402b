"""A transport to run directories in another folder, as on a file system that is mounted on this machine only.

Tests use it too: a job that sees only the other folder is like a job on another machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlnb.rundir import temporary_path
from mlnb.targets.mirror.base import Entry

_PIECE = 2**22


class FolderTransport:
    """Run directories in ``root``, by id; see :class:`mlnb.targets.mirror.base.Transport`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def listing(self, runs: Sequence[str]) -> Mapping[str, Mapping[str, Entry]]:
        """See the class."""
        return {run: _files(self._root / run) for run in runs if (self._root / run).is_dir()}

    def read(self, run: str, path: str, offset: int = 0) -> Iterator[bytes]:
        """See the class."""
        with (self._root / run / path).open("rb") as file:
            file.seek(offset)
            while piece := file.read(_PIECE):
                yield piece

    def write(self, run: str, path: str, source: Path) -> None:
        """See the class."""
        target = self._root / run / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = temporary_path(target)
        try:
            shutil.copyfile(source, temporary)
            temporary.chmod(0o600)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, run: str, path: str) -> None:
        """See the class."""
        (self._root / run / path).unlink(missing_ok=True)

    def remove(self, run: str) -> None:
        """See the class."""
        shutil.rmtree(self._root / run, ignore_errors=True)


def _files(folder: Path) -> dict[str, Entry]:
    entries = {}
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                info = Path(path, name).stat()
            except FileNotFoundError:  # it was renamed or removed since
                continue
            entries[os.path.relpath(Path(path, name), folder)] = Entry(info.st_size, info.st_mtime_ns)
    return entries
