"""Files that tell when they are closed."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from typing import IO, Any

_PART = 1 << 20


class _Raw(io.FileIO):
    """An unbuffered file that calls ``closed_by`` once, when it is closed."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        call, self.on_close = self.on_close, None
        try:
            super().close()
        finally:
            if call is not None:
                call()


def open_watched(
    file: Any,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    opener: Any = None,
    on_close: Callable[[], None],
) -> IO[Any]:
    """What ``open`` returns for a mode that writes, and ``on_close`` is called when it has been closed.

    The arguments must be those of a call that ``open`` accepts.
    """
    raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
    raw.on_close = on_close
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else max(io.DEFAULT_BUFFER_SIZE, os.fstat(raw.fileno()).st_blksize)
    buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
    if "b" in mode:
        return buffered
    is_line_buffered = buffering == 1 or (buffering == -1 and raw.isatty())
    text = io.TextIOWrapper(buffered, encoding, errors, newline, is_line_buffered)
    text.mode = mode  # type: ignore[misc]
    return text


class Scratch:
    """A file without a name, in place of one that another rank writes.

    Parameters
    ----------
    path
        of the other file; if ``mode`` reads it, too, this one begins with what is there.
    is_kept
        whether :meth:`write_to` can be called after it was closed.
    """

    def __init__(self, path: str, mode: str, *, is_kept: bool) -> None:
        self._descriptor, name = tempfile.mkstemp(prefix="mlnb-scratch-")
        os.unlink(name)  # noqa: PTH108 - no name is left
        if "+" in mode and "w" not in mode:
            with contextlib.suppress(FileNotFoundError), io.FileIO(path) as source:
                while part := source.read(_PART):
                    os.write(self._descriptor, part)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._kept = os.dup(self._descriptor) if is_kept else None

    def open(self, *_: object) -> int:
        """Its descriptor; an ``opener`` for ``open``."""
        return self._descriptor

    def close(self) -> None:
        """It is not needed."""
        os.close(self._descriptor)
        if self._kept is not None:
            os.close(self._kept)

    def write_to(self, path: str) -> None:
        """Give it a name after all."""
        assert self._kept is not None
        with io.FileIO(self._kept) as source, io.FileIO(f"{path}.{os.getpid()}", "w") as target:
            source.seek(0)
            while part := source.read(_PART):
                target.write(part)
        os.replace(f"{path}.{os.getpid()}", path)  # noqa: PTH105
