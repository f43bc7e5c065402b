"""SLURM's commands behind shell scripts, which record each call, and may answer in their place."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.scripts import write_command

NAMES = ("sbatch", "squeue", "scancel", "scontrol", "sacct")


class Commands:
    """A folder for PATH. Each command in it records that it was called, then runs the real one.

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
        """Make the command ``name`` this shell script from now on."""
        write_command(self.folder, name, f"echo {name} >>{self.folder / 'calls'}", script)

    def calls(self) -> list[str]:
        """The commands that were called so far, in order."""
        file = self.folder / "calls"
        return file.read_text().split() if file.exists() else []
