"""Sends a run directory to a target that does not share the session's file system."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mlnb import manifest
from mlnb.rundir import RunDir, write_atomic
from mlnb.targets.base import Target

RESUME = "resume"
"""The folder of a run directory with a copy of the checkpoints that it continues from, if they have to be sent."""

_NOT_SENT = frozenset({"key", "handle.json", "ended.json"})
"""Files that only the session needs."""


def seal(run: RunDir, checkpoints: Path | None = None) -> None:
    """Create the key of a run that is about to be sent, and sign what the job will unpickle.

    Parameters
    ----------
    checkpoints
        the folder of another run's checkpoints that the run continues from: a copy is sent too.
    """
    key = manifest.new_key()
    write_atomic(run.key, key)
    if checkpoints is not None:
        shutil.copytree(checkpoints, run.path / RESUME)
    for folder in (run.inputs, run.path / RESUME):
        if folder.is_dir():
            manifest.write(folder, [path.name for path in folder.iterdir() if path.name != manifest.NAME], key)


def send(run: RunDir, target: Target) -> Mapping[str, str]:
    """Copy a new run directory to the job's machine. Returns the environment variables that the job needs for that.

    Raises
    ------
    MlnbError
        if it can't be sent.
    """
    if target.mirror is None:
        return {}
    paths = [path.relative_to(run.path) for path in sorted(run.path.rglob("*")) if path.is_file()]
    target.mirror.push(run, [str(path) for path in paths if path.name not in _NOT_SENT and path.name[0] != "."])
    return {manifest.VARIABLE: run.read_key()}


def send_changes(run: RunDir, target: Target, *, moved: bool) -> Mapping[str, str]:
    """Copy what the next attempt changes to the job's machine. Returns the variables that the job needs for that.

    Parameters
    ----------
    moved
        whether the previous attempt was on another target: then all files of the run are sent.

    Raises
    ------
    MlnbError
        if it can't be sent.
    """
    if target.mirror is None:
        return {}
    if moved:
        if not run.key.exists():
            seal(run)
        if run.checkpoints.is_dir():
            names = [path.name for path in run.checkpoints.iterdir() if path.suffix == ".pt"]
            manifest.write(run.checkpoints, names, run.read_key())
        return send(run, target)
    target.mirror.push(run, ["task.json", "run.json", "cancel.json"])
    return {manifest.VARIABLE: run.read_key()}
