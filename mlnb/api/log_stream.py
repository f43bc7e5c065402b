"""Follows what a rank prints, until its run ends."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlnb.api.run import Run

_INTERVAL = 0.1
"""Seconds between two reads."""


class Printed(NamedTuple):
    """A piece of what a rank printed, and whether it printed it on standard error."""

    text: str
    is_error: bool


class _TextTail:
    """A text file that grows. A character whose bytes are not all written yet is returned later."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def new(self, *, last: bool) -> str:
        """The text since the last call. ``last`` says that no more will come."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            data = b""
        self._offset += len(data)
        return self._decoder.decode(data, final=last)


def follow_output(run: Run, rank: int = 0) -> Iterator[Printed]:
    """The output of a rank until the run ends, in pieces: that of the newest attempt, then of those that follow.

    Pieces of standard output and of standard error come in the order in which they are read.
    """
    files: dict[int, tuple[_TextTail, _TextTail]] = {}
    while True:
        done = run.done
        attempts = run.directory.attempts()
        for attempt in attempts if files else attempts[-1:]:
            if not files or attempt.number > min(files):
                files.setdefault(attempt.number, (_TextTail(attempt.stdout(rank)), _TextTail(attempt.stderr(rank))))
        for number, streams in files.items():
            for file, is_error in zip(streams, (False, True), strict=True):
                text = file.new(last=done or number < max(files))
                if text:
                    yield Printed(text, is_error)
        if done:
            return
        time.sleep(_INTERVAL)
