"""Checkpoints on disk: whole or not there, newest found by name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from mlnb.rundir import check_trusted

_NAME = re.compile(r"epoch-(\d{6})\.pt$")
KEEP = 2
"""How many of the newest checkpoints stay."""


def save(folder: Path, epoch: int, state: dict[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``epoch`` epochs, durable before it gets its name.

    Raises
    ------
    OSError
        if it can't be written; the checkpoints before it stay as they are.
    """
    path = _write(folder / f"epoch-{epoch:06d}.pt", state)
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def save_rank(folder: Path, epoch: int, rank: int, state: dict[str, Any]) -> Path:
    """Write what ``rank`` (not 0) has of its own beside the checkpoint after ``epoch`` epochs.

    Raises
    ------
    OSError
        if it can't be written.
    """
    path = _write(rank_file(folder / f"epoch-{epoch:06d}.pt", rank), state)
    for old in sorted(folder.glob(f"epoch-*.rank-{rank}.pt"))[: -KEEP - 1]:  # rank 0 may be an epoch behind
        old.unlink(missing_ok=True)
    return path


def rank_file(path: Path, rank: int) -> Path:
    """Where ``rank`` keeps its own part of the checkpoint ``path``."""
    return path.with_name(f"{path.stem}.rank-{rank}.pt")


def _write(path: Path, state: dict[str, Any]) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fchmod(file.fileno(), 0o600)  # whatever the script's umask: it will be unpickled
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("epoch-*.pt") if _NAME.match(path.name))


def load(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Raises
    ------
    NotTrusted
        if someone else could have written it.
    """
    check_trusted(path.parent)
    check_trusted(path)
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=False)
    return state
