"""Folders and files that other processes or users may touch at the same time. Standard library only."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from pathlib import Path
from typing import Any

from mlnb.errors import UsageError, storage_errors
from mlnb.rundir import parse_lines, read_json, sync_folder, temporary_path, write_json


def private_folder(folder: Path, variable: str) -> Path:
    """``folder``, made with mode 0700 if it is missing, after a check that only this user can use it.

    Check it each time before a file in it is used: a folder in /tmp may be deleted, and made again by another user.

    Parameters
    ----------
    variable
        the environment variable that sets where ``folder`` is.

    Raises
    ------
    UsageError
        if it is not a folder, belongs to another user, or others can read it.
    StorageError
        if it can't be made.
    """
    with storage_errors(folder, variable), contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    info = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise UsageError(f"{folder} is not a folder of yours: set {variable} to one that is")
    if info.st_mode & 0o077:
        raise UsageError(f"Others can read {folder}. Run: chmod 700 {shlex.quote(str(folder))}")
    return folder


def write_once(path: Path, value: object) -> None:
    """Write ``value`` as JSON, unless ``path`` has a JSON object already: then that stays.

    The file appears with its whole content. One without valid content, as of an interrupted copy, is replaced.

    Raises
    ------
    StorageError
        if it can't be written.
    """
    temporary = temporary_path(path)
    try:
        write_json(temporary, value)
        with storage_errors(path):
            try:
                os.link(temporary, path)  # atomic, and fails if the path exists
            except OSError:  # it exists, or the file system has no hard links
                if read_json(path) is None:
                    temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_files(folder: Path) -> None:
    """Write the files in a folder, which has no folders in it, to the disk, and their names.

    Raises
    ------
    OSError
        if a file can't be written, as on a full disk.
    """
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    sync_folder(folder)


def first_lines(path: Path, size: int = 16384) -> list[dict[str, Any]]:
    """The objects in the first ``size`` bytes of a file of JSON lines; none if there is no file."""
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except OSError:
        return []
    return parse_lines(data)


def last_lines(path: Path, size: int) -> list[dict[str, Any]]:
    """The objects in the last ``size`` bytes of a file of JSON lines; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            data = file.read()
    except OSError:
        return []
    return parse_lines(data)
