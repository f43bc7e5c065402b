"""Write and read checkpoint files: each is complete or absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from mlnb import manifest
from mlnb.manifest import check_loadable
from mlnb.node.checkpoint.names import checkpoints, file_name, rank_file, rank_files

KEEP = 2
"""How many of the newest checkpoints are kept."""


def save(folder: Path, epoch: int, state: dict[str, Any], batch: int = 0) -> Path:
    """Write ``state`` as the checkpoint after ``epoch`` epochs and ``batch`` batches, synced to disk and then named.

    Raises
    ------
    OSError
        if it can't be written; the checkpoints before it stay as they are.
    """
    path = _write(folder / file_name(epoch, batch), folder / "checkpoint.tmp", state)
    _keep(checkpoints(folder), KEEP, manifest.NAME)
    return path


def save_rank(folder: Path, epoch: int, rank: int, state: dict[str, Any], batch: int = 0) -> Path:
    """Write the state of ``rank`` (not 0) for the checkpoint after ``epoch`` epochs and ``batch`` batches.

    Raises
    ------
    OSError
        if it can't be written.
    """
    path = _write(rank_file(folder / file_name(epoch, batch), rank), folder / f"checkpoint.rank-{rank}.tmp", state)
    _keep(rank_files(folder, rank), KEEP + 1, f"manifest.rank-{rank}.json")  # rank 0 may still write the one before
    return path


def _keep(paths: list[Path], number: int, manifest_name: str) -> None:
    """Delete all but the newest files; those that stay are listed first, so that a list names none that is gone."""
    manifest.sign(paths[-1].parent, [path.name for path in paths[-number:]], manifest_name)
    for old in paths[:-number]:
        old.unlink(missing_ok=True)


def _write(path: Path, temporary: Path, state: dict[str, Any]) -> Path:
    """Write to ``temporary``, then rename. A file left by a kill is overwritten next time, since the name is fixed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fchmod(file.fileno(), 0o600)  # regardless of the script's umask: it will be unpickled
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def load(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Raises
    ------
    NotTrusted
        if someone else could have written it.
    """
    check_loadable(path)
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=False)
    return state
