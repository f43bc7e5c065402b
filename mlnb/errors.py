"""Errors that users see. Each is one line: what was given, what is allowed, what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path


class MlnbError(Exception):
    """Base class: an error that the user can fix. Its text is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a traceback."""
        return [f"mlnb: {self}"]


class UsageError(MlnbError):
    """An invalid option, name or value. Nothing was submitted or written."""


class NoSuchRun(UsageError):
    """A run that is not in the folder of runs."""


class CannotShip(UsageError):
    """The cell needs an object of the session that can't be sent to another process."""


class NotTrusted(MlnbError):
    """A file that another user owns or may write to. It is not unpickled."""


class RunFailed(MlnbError):
    """A run that was waited for did not succeed."""


class Detached(MlnbError):
    """Waiting for a run was interrupted. The run itself continues."""


class StorageError(MlnbError):
    """A file can't be written, as on a full or read-only disk, or over quota."""


_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENOTDIR: "part of the path is not a directory",
    errno.EIO: "the file system reports an input/output error",
}


@contextlib.contextmanager
def storage_errors(path: Path, variable: str = "MLNB_RUNS") -> Iterator[None]:
    """Turn an ``OSError`` about storage into a ``StorageError`` of one line; other errors pass unchanged.

    Parameters
    ----------
    path
        what is written.
    variable
        the environment variable that sets where ``path`` is.

    Raises
    ------
    StorageError
        with ``path``, the cause, and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise StorageError(
            f"can't write {path}: {_STORAGE[error.errno]}. Free space there or set {variable} to another folder."
        ) from error
