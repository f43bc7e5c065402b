"""What a rank prints, as it prints it."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from pathlib import Path

from mlnb.api.run import Run

_STEP = 0.1


class _Text:
    """A file that grows, as text: a character whose bytes are not all there yet comes with the rest of them."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def new(self, *, last: bool) -> str:
        """What came since the last call; ``last`` says that nothing comes behind it."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            data = b""
        self._offset += len(data)
        return self._decoder.decode(data, final=last)


def lines(run: Run, rank: int = 0) -> Iterator[str]:
    """What a rank prints from the newest attempt on until the run ends, one attempt behind the other."""
    files: dict[int, tuple[_Text, _Text]] = {}
    while True:
        done = run.done
        attempts = run.directory.attempts()
        for attempt in attempts if files else attempts[-1:]:
            if not files or attempt.number > min(files):
                files.setdefault(attempt.number, (_Text(attempt.stdout(rank)), _Text(attempt.stderr(rank))))
        for number, both in files.items():
            for file in both:
                text = file.new(last=done or number < max(files))
                if text:
                    yield text
        if done:
            return
        time.sleep(_STEP)
