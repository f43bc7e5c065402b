"""Claims a run's next attempt, so that of several processes that resume or remove the run only one does it."""

from __future__ import annotations

import contextlib

from mlnb.errors import UsageError, storage_errors
from mlnb.rundir import RunDir
from mlnb.runinfo import RunInfo


def claim_attempt(run: RunDir, number: int, action: str) -> None:
    """Create the folder of attempt ``number``, which only one process can do.

    Parameters
    ----------
    action
        what it is for, as it begins the error message.

    Raises
    ------
    UsageError
        if another process has done so, or has removed the run.
    StorageError
        if it can't be created.
    """
    name, folder = RunInfo.read(run).name, run.attempt(number).path
    try:
        with storage_errors(run.path):  # never the run's own folder: it would come back if it was just removed
            with contextlib.suppress(FileExistsError):
                folder.parent.mkdir(mode=0o700)
            folder.mkdir(mode=0o700)
    except FileExistsError:
        raise UsageError(f"{action} {name}: it is resumed or removed elsewhere at this moment") from None
    except FileNotFoundError:
        raise UsageError(f"{action} {name}: that run has been removed") from None


def withdraw_claim(run: RunDir, number: int) -> None:
    """Undo :func:`claim_attempt`, unless the attempt has files."""
    with contextlib.suppress(OSError):
        run.attempt(number).path.rmdir()
