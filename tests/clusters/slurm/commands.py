"""SLURM's commands with somebody who writes down each call, and who may answer in their place."""

from __future__ import annotations

import shutil
from pathlib import Path

NAMES = ("sbatch", "squeue", "scancel", "scontrol", "sacct")


class Commands:
    """A folder for PATH. Each command in it notes that it was called, then does what the real one does.

    Parameters
    ----------
    folder
        where they are put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._real = {name: shutil.which(name) for name in NAMES}
        self.restore()

    def restore(self) -> None:
        """Have the real ones answer again."""
        for name, path in self._real.items():
            self.say(name, f'exec {path} "$@"')

    def say(self, name: str, script: str) -> None:
        """From now on the command ``name`` is this shell script."""
        path = self.folder / name
        made = path.with_suffix(".new")
        made.write_text(f"#!/bin/sh\necho {name} >>{self.folder / 'calls'}\n{script}\n")
        made.chmod(0o755)
        made.replace(path)

    def calls(self) -> list[str]:
        """The commands that were called so far, in order."""
        file = self.folder / "calls"
        return file.read_text().split() if file.exists() else []
