"""Whether an attempt has come further than those before it: by its checkpoints."""

from __future__ import annotations

import contextlib
from pathlib import Path


class Progress:
    """The checkpoints of a run, as they are now and as they will be.

    Parameters
    ----------
    folder
        where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._now()

    @property
    def any(self) -> bool:
        """Whether there is a checkpoint to go on from, of whatever attempt."""
        return bool(self._now())

    @property
    def made(self) -> bool:
        """Whether one was made since."""
        return not self._now() <= self._before

    def _now(self) -> set[tuple[str, int]]:
        # by their names alone: to list them otherwise takes torch, for which a node program has no time yet
        found = set()
        for path in self._folder.glob("epoch-*.pt"):
            with contextlib.suppress(FileNotFoundError):  # old ones are removed
                if ".rank-" not in path.name:
                    found.add((path.name, path.stat().st_mtime_ns))
        return found
