"""Copies new files of runs on targets with another file system, so that readers need only the local run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import RunInfo
from mlnb.targets.base import Target
from mlnb.targets.registry import target
from mlnb.workspace import Workspace


def refresh(of_target: Target, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
    """Copy what is new of the runs of one target; does nothing if the target shares the session's file system.

    Parameters
    ----------
    at_once
        query the target now, however recently it was queried.

    Raises
    ------
    MlnbError
        if the target does not answer.
    """
    if of_target.mirror is not None and runs:
        of_target.mirror.refresh(runs, at_once=at_once)


def catch_up(run: RunDir, target_name: str, workspace: Workspace) -> None:
    """Copy what is new of one mirrored run, unless it is complete. A target that does not answer is ignored."""
    if int((read_json(run.result) or {}).get("attempt", 0)) < len(run.attempts()):
        with contextlib.suppress(MlnbError):
            refresh(target(target_name, workspace), [run])


def fetch(run: RunDir, part: str, workspace: Workspace) -> None:
    """Copy a part of a run: ``outputs``, ``checkpoints`` or ``figures``.

    Raises
    ------
    NotTrusted
        if it is not what the run's own processes wrote.
    MlnbError
        if the target does not answer.
    """
    info = RunInfo.read(run)
    if info.mirrored:
        of_target = target(info.target, workspace)
        if of_target.mirror is not None:
            of_target.mirror.fetch(run, part)
