"""Names of checkpoint files, and which is the newest; without torch, which a node program starts without."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mlnb.rundir import RunDir

RESUME = "MLNB_RESUME"
"""The environment variable with the checkpoint to continue from, relative to the run directory; empty for none."""

_NAME = re.compile(r"epoch-(\d{6})(?:-batch-(\d{6,}))?(?:\.rank-\d+)?\.pt$")


def file_name(epoch: int, batch: int = 0) -> str:
    """Return the name of the checkpoint after ``epoch`` epochs and ``batch`` batches of the next one."""
    return f"epoch-{epoch:06d}-batch-{batch:06d}.pt" if batch else f"epoch-{epoch:06d}.pt"


def rank_file(path: Path, rank: int) -> Path:
    """Return the file with the part of ``rank`` in the checkpoint ``path``."""
    return path.with_name(f"{path.stem}.rank-{rank}.pt")


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return _in_order(path for path in folder.glob("epoch-*.pt") if ".rank-" not in path.name)


def rank_files(folder: Path, rank: int) -> list[Path]:
    """Return the parts of ``rank`` (not 0) in the checkpoints of a run, oldest first."""
    return _in_order(folder.glob(f"epoch-*.rank-{rank}.pt"))


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Return those of ``paths`` that are named as checkpoints, oldest first."""
    matches = [(int(match[1]), int(match[2] or 0), path) for path in paths if (match := _NAME.match(path.name))]
    return [path for _, _, path in sorted(matches)]


def to_resume_from(run: RunDir, earlier: str | None) -> str:
    """Find the checkpoint from which a new attempt resumes.

    Parameters
    ----------
    earlier
        the folder, relative to the run directory, with the checkpoints of the run that this one resumes with other
        code. Counts while this run has no checkpoint of its own.

    Returns
    -------
    str
        its path relative to the run directory; empty if there is none.
    """
    paths = checkpoints(run.checkpoints) or (checkpoints(run.path / earlier) if earlier else [])
    return os.path.relpath(paths[-1], run.path) if paths else ""
