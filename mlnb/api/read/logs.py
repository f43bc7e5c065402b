"""Reads what ranks printed, as a terminal would show it: all of it, or the last lines."""

from __future__ import annotations

import os
from pathlib import Path

from mlnb.api.terminal import as_shown
from mlnb.errors import UsageError
from mlnb.rundir import RunDir, read_json

_LINE = 200
"""Estimated bytes per line: this many are read from the end of a file for each requested line."""


def printed(run: RunDir, rank: int, stream: str) -> str:
    """What a rank printed in the newest attempt.

    Parameters
    ----------
    stream
        ``out``, ``err`` or ``both`` (standard error below standard output).

    Raises
    ------
    UsageError
        if there is no such stream.
    """
    if stream not in ("out", "err", "both"):
        raise UsageError(f"stream {stream!r}: out, err or both")
    attempts = run.attempts()
    if not attempts:
        return ""
    files = {"out": attempts[-1].stdout(rank), "err": attempts[-1].stderr(rank)}
    chosen = [files[stream]] if stream != "both" else list(files.values())
    return "".join(as_shown(path.read_bytes().decode(errors="replace")) for path in chosen if path.exists())


def last_lines(run: RunDir, lines: int, rank: int) -> str:
    """The last lines that a rank printed in the newest attempt.

    Standard output, and standard error unless that is the traceback of the run's own error.
    """
    attempts = run.attempts()
    if not attempts:
        return ""
    files = [attempts[-1].stdout(rank)]
    result = read_json(run.result) or {}
    if not result.get("error") or result.get("attempt", 1) < len(attempts):
        files.append(attempts[-1].stderr(rank))
    return "\n".join(part for part in (_tail(path, lines) for path in files) if part)


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE * lines))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(as_shown(text).rstrip("\n").split("\n")[-lines:])
