"""What is read of runs elsewhere: brought here first, so that all readers read the session's run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import RunInfo
from mlnb.targets.base import Target
from mlnb.targets.registry import target
from mlnb.workspace import Workspace


def refresh(place: Target, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
    """Bring what is new of runs of one target; nothing to do where its file system is the session's.

    Parameters
    ----------
    at_once
        whether the other end is to be asked now, however short a time ago it was asked.

    Raises
    ------
    MlnbError
        if its other end does not answer.
    """
    if place.mirror is not None and runs:
        place.mirror.refresh(runs, at_once=at_once)


def catch_up(run: RunDir, target_name: str, workspace: Workspace) -> None:
    """Bring what is new of one mirrored run, unless all of it is here. A target that does not answer brings nothing."""
    if int((read_json(run.result) or {}).get("attempt", 0)) < len(run.attempts()):
        with contextlib.suppress(MlnbError):
            refresh(target(target_name, workspace), [run])


def fetch(run: RunDir, part: str, workspace: Workspace) -> None:
    """Bring a part of a run: ``outputs``, ``checkpoints`` or ``figures``.

    Raises
    ------
    NotTrusted
        if it is not what the run's own processes wrote.
    MlnbError
        if the other end does not answer.
    """
    info = RunInfo.read(run)
    if info.mirrored:
        place = target(info.target, workspace)
        if place.mirror is not None:
            place.mirror.fetch(run, part)
