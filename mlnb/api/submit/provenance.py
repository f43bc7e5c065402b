"""The git state of the folder that a run is submitted from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TIMEOUT = 0.5
"""Seconds that git may take: a huge or remote work tree must not delay a cell."""


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
    commit = _run_git(git, folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    branch = _run_git(git, folder, "rev-parse", "--abbrev-ref", "HEAD") if commit else None
    return {"commit": commit, "branch": branch or ""} if commit else None


def _run_git(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
