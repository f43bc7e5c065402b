"""Reads what ranks printed, as a terminal would show it: all of it, or the last lines."""

from __future__ import annotations

import codecs
import re
import threading
from pathlib import Path

from mlnb.api.terminal import Screen, as_shown, newest_drawn
from mlnb.errors import UsageError
from mlnb.rundir import RunDir, read_json

_FIRST = 4 * 2**20
"""Bytes that are read at first from the end of a file: a progress bar redraws its line for long, and with it those of
the bars above it are shown, which were drawn long before."""

_SHOWN = 2**16
"""Characters of them that are shown, without what was drawn over."""

_LINE_END = re.compile("[\r\n]")


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


class LastLines:
    """The last lines that ranks printed in the newest attempt of a run, as a terminal would show them.

    Reads only what is new. May be used from any thread.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._files: dict[Path, _Tail] = {}
        self._lock = threading.Lock()

    def read(self, lines: int, rank: int) -> str:
        """Standard output, and standard error unless that is the traceback of the run's own error."""
        attempts = self._run.attempts()
        if not attempts:
            return ""
        paths = [attempts[-1].stdout(rank)]
        result = read_json(self._run.result) or {}
        if not result.get("error") or result.get("attempt", 1) < len(attempts):
            paths.append(attempts[-1].stderr(rank))
        with self._lock:
            return "\n".join(part for part in (self._files.setdefault(p, _Tail(p)).read(lines) for p in paths) if part)


class _Tail:
    """The end of one file, which grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_again(0)

    def _start_again(self, offset: int) -> None:
        self._offset, self._screen = offset, Screen()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self, lines: int) -> str:
        try:
            size = self._path.stat().st_size
            if size != self._offset:
                self._read_new(size)
        except OSError:
            return ""
        return "\n".join(self._screen.text.split("\n")[-lines:])

    def _read_new(self, size: int) -> None:
        is_first = self._offset == 0
        if not 0 <= size - self._offset <= _FIRST:  # it is longer, or was replaced
            self._start_again(max(0, size - _FIRST))
            is_first = True
        is_cut = is_first and self._offset > 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(size - self._offset)
        self._offset += len(data)
        text = self._decoder.decode(data)
        if is_first:
            text = newest_drawn(text)
            if is_cut or len(text) > _SHOWN:
                complete = _LINE_END.search(text, max(0, len(text) - _SHOWN))
                text = text[complete.start() :] if complete else text[-_SHOWN:]
        self._screen.feed(text)
