"""Notices that what this process has imported is no longer what is installed, as after ``pip install --upgrade``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

State = tuple[int, int, int]
"""Time of modification, size and inode number of a file or folder."""


class ImportedFiles:
    """The files of the modules that this process has imported, as they were when this object was made.

    Installing a package changes the time of a folder of ``sys.path``. While these times stay, nothing else is looked
    at.

    Parameters
    ----------
    on_install
        called when something was installed or removed, be it not imported.
    """

    def __init__(self, on_install: Callable[[], object]) -> None:
        self._on_install = on_install
        self._folders = _states(sys.path)
        self._files = self._read_files()
        self._has_changed = False

    def have_changed(self) -> bool:
        """Whether an imported file was replaced, or a ``.pth`` file, which adds to ``sys.path``, came or went."""
        if self._has_changed:
            return True
        folders = _states(sys.path)
        if folders == self._folders:
            return False
        self._on_install()
        self._has_changed = self._read_files() != self._files
        self._folders = folders
        return self._has_changed

    def _read_files(self) -> dict[str, State]:
        modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        return _states([path for path in modules if isinstance(path, str)] + _path_files(self._folders))


def _path_files(folders: Iterable[str]) -> list[str]:
    """The ``.pth`` files in ``folders``."""
    found = []
    for folder in folders:
        try:
            found += [str(path) for path in Path(folder).iterdir() if path.suffix == ".pth"]
        except OSError:  # no folder, but an archive
            continue
    return found


def _states(paths: Iterable[str]) -> dict[str, State]:
    states = {}
    for path in paths:
        try:
            found = Path(path).stat()
        except OSError:
            continue
        states[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
    return states
