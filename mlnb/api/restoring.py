"""Loads a checkpoint into objects of this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.errors import UsageError


def restore_objects(checkpoint: Path, objects: Mapping[str, Any]) -> int:
    """Load a checkpoint into objects, by the names that they have in it; returns how many epochs were done.

    Raises
    ------
    UsageError
        for a name that the checkpoint lacks.
    NotTrusted
        if another user could have written it.
    """
    from mlnb.node.checkpoint import epochs, files

    saved = files.load(checkpoint)
    for name in objects:
        if name not in saved["state"]:
            raise UsageError(f"{name}: the checkpoint holds {', '.join(saved['state'])}")
    epochs.restore(saved, dict(objects))
    return int(saved["epoch"])
