"""Removes the directory of a run that has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlnb.api.submit.claim import claim_attempt, withdraw_claim
from mlnb.api.submit.store import Store
from mlnb.errors import storage_errors
from mlnb.rundir import RunDir
from mlnb.targets.mirror.base import Mirror

_REMOVED = ".removed"
"""How the name of a directory ends that is being removed; it begins with a dot, so that it is no run any more."""


def remove_directory(run: RunDir, attempts: int, mirror: Mirror | None) -> int:
    """Delete a run's directory, and stored data that no other run uses. Returns how many bytes were freed.

    Parameters
    ----------
    attempts
        how many attempts the run had when it was seen that it has ended.
    mirror
        of its target.

    Raises
    ------
    UsageError
        if another process resumes or removes it.
    MlnbError
        if its target does not answer, or the directory can't be removed. Then it stays as it was.
    """
    claim_attempt(run, attempts + 1, "can't remove")
    files = [path.stat() for path in run.path.rglob("*") if path.is_file()]
    removed = run.path.with_name(f".{run.path.name}{_REMOVED}")
    try:
        if mirror is not None:
            mirror.remove(run)
        with storage_errors(run.path):
            run.path.rename(removed)  # at once: no other process sees a part of a run
    except BaseException:
        withdraw_claim(run, attempts + 1)
        raise
    _delete_removed(run.path.parent)
    freed = sum(info.st_size for info in files if info.st_nlink == 1)
    return freed + Store(run.path.parent).sweep()


def _delete_removed(root: Path) -> None:
    """Delete all that was removed, also what an interrupted process has left, or what was in use on NFS."""
    for folder in root.glob(f".*{_REMOVED}"):
        shutil.rmtree(folder, ignore_errors=True)
