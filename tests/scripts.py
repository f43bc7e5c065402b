"""Shell scripts that take the place of commands, for what the real ones can't be made to do."""

from __future__ import annotations

from pathlib import Path


def write_command(folder: Path, name: str, *lines: str) -> Path:
    """Write the command ``name``, a shell script of these lines, into a folder of PATH.

    An earlier one is replaced atomically, since it may be called at this moment.
    """
    script = folder / f"{name}.new"
    script.write_text("".join(f"{line}\n" for line in ("#!/bin/sh", *lines)))
    script.chmod(0o755)
    return script.replace(folder / name)
