"""Whether a run has checkpoints, and whether this attempt has made one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mlnb.node.checkpoint.names import checkpoints


class Progress:
    """The checkpoints of a run, now and when this was created.

    Parameters
    ----------
    folder
        of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._now()

    @property
    def any(self) -> bool:
        """Whether there is a checkpoint to resume from, of any attempt."""
        return bool(self._now())

    @property
    def made(self) -> bool:
        """Whether a checkpoint was made since this was created."""
        return not self._now() <= self._before

    def _now(self) -> set[tuple[str, int]]:
        versions = set()
        for path in checkpoints(self._folder):
            with contextlib.suppress(FileNotFoundError):  # old ones may be removed meanwhile
                versions.add((path.name, path.stat().st_mtime_ns))
        return versions
