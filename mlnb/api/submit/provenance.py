"""Where a run's code comes from, as far as git knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PATIENCE = 0.5
"""Seconds that git may take: a huge or distant work tree must not hold a cell up."""


def git_state(folder: Path) -> dict[str, str] | None:
    """Commit and whether the work tree has changes, ``None`` outside a repository or where git is too slow.

    Returns
    -------
    dict
        ``commit`` (abbreviated, with ``-dirty`` where tracked files have changed) and ``branch``.
    """
    git = shutil.which("git")
    if git is None:
        return None
    commit = _ask(git, folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    branch = _ask(git, folder, "rev-parse", "--abbrev-ref", "HEAD") if commit else None
    return {"commit": commit, "branch": branch or ""} if commit else None


def _ask(git: str, folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *words], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
