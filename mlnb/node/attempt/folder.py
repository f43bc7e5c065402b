"""The folder that a run's relative paths are relative to: that of the session, if the machine has it."""

from __future__ import annotations

import os
from pathlib import Path

from mlnb.rundir import RunDir
from mlnb.runinfo import RunInfo


def enter(folder: str, run: RunDir) -> None:
    """Make relative paths relative to ``folder``, or to the run directory where there is no such folder."""
    try:
        os.chdir(folder or run.path)
    except OSError:
        os.chdir(run.path)


def notes(run: RunDir) -> list[str]:
    """A note for the user if the session's folder isn't on this machine; call it after :func:`enter`."""
    expected = RunInfo.read(run).cwd
    if not expected or Path(expected).is_dir():
        return []
    return [f"{expected} isn't on the run's machine: its relative paths, and what it wrote there, are in its directory"]
