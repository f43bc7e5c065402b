"""Sending a run directory to a target that has no file system with the session in common."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mlnb import manifest
from mlnb.rundir import RunDir, write_atomic
from mlnb.targets.base import Target

RESUME = "resume"
"""The folder of a run directory that holds the checkpoints of the run that it goes on from, where those must travel."""

_STAYS = frozenset({"key", "handle.json", "ended.json"})
"""Files that are the session's alone."""


def seal(run: RunDir, checkpoints: Path | None = None) -> None:
    """Give a run directory that is about to be sent its key, and sign what will be unpickled at the other end.

    Parameters
    ----------
    checkpoints
        the folder of another run's checkpoints that the run is to go on from: a copy goes along.
    """
    key = manifest.new_key()
    write_atomic(run.key, key)
    if checkpoints is not None:
        shutil.copytree(checkpoints, run.path / RESUME)
    for folder in (run.inputs, run.path / RESUME):
        if folder.is_dir():
            manifest.write(folder, [path.name for path in folder.iterdir() if path.name != manifest.NAME], key)


def send(run: RunDir, target: Target) -> Mapping[str, str]:
    """Have the job's machine see all of a new run directory; the variables that the job needs for that.

    Raises
    ------
    MlnbError
        if it can't be sent.
    """
    if target.mirror is None:
        return {}
    paths = [path.relative_to(run.path) for path in sorted(run.path.rglob("*")) if path.is_file()]
    target.mirror.push(run, [str(path) for path in paths if path.name not in _STAYS and path.name[0] != "."])
    return {manifest.VARIABLE: run.read_key()}


def send_again(run: RunDir, target: Target, *, moved: bool) -> Mapping[str, str]:
    """Have the job's machine see what the next attempt of a run changes; the variables that the job needs for that.

    Parameters
    ----------
    moved
        whether the attempt before was on another target: then all that it has left goes along.

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
