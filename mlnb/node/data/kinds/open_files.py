"""Open files: they travel as path, mode and position. What is open for writing is never emptied by that."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

CLOSED = -1
"""The position of a file that was closed."""

_SAMPLE = 65536
"""Bytes at the start of a text file that are searched for carriage returns."""


def can_travel(file: Any) -> bool:
    """Whether a file can be opened again elsewhere and go on as this one does: a regular file under its own path."""
    try:
        return _path(file) is not None and not _depends_on_newlines(file) and file.tell() >= 0
    except (OSError, ValueError):
        return False


def reduce_file(file: Any) -> Any:
    """Reduce an open file for pickle; ``NotImplemented`` if it can't travel."""
    if type(file) in (io.StringIO, io.BytesIO) and file.closed:
        return closed_buffer, (type(file),)
    if type(file) not in (io.TextIOWrapper, *_BINARY):
        return NotImplemented
    if file.closed:
        name = _name(file)
        if not isinstance(name, (str, Path)) or not Path(name).is_file():
            return NotImplemented
        return open_again, _arguments(file, Path(name).absolute()), CLOSED, None, None, set_position
    if not can_travel(file):
        return NotImplemented
    if file.writable():
        file.flush()
    return open_again, _arguments(file, _path(file)), file.tell(), None, None, set_position


def _arguments(file: Any, path: Path | None) -> tuple[Any, ...]:
    text = (file.encoding, file.errors, file.line_buffering, file.write_through) if _is_text(file) else None
    return str(path), _mode(file), isinstance(file, io.FileIO), text


_BINARY = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)


def _is_text(file: Any) -> bool:
    return isinstance(file, io.TextIOWrapper)


def _raw(file: Any) -> Any:
    file = getattr(file, "buffer", file)
    return getattr(file, "raw", file)


def _name(file: Any) -> Any:
    return getattr(_raw(file), "name", None)


def _path(file: Any) -> Path | None:
    """The path of an open file, if it still leads to that file."""
    name = _name(file)
    if type(file) not in (io.TextIOWrapper, *_BINARY) or not isinstance(_raw(file), io.FileIO):
        return None
    if not isinstance(name, (str, Path)):
        return None
    path = Path(name).absolute()
    return path if path.is_file() and _is_same(path, file) else None


def _is_same(path: Path, file: Any) -> bool:
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))


def _depends_on_newlines(file: Any) -> bool:
    """Whether a text file that is read may have carriage returns: how it treats them can't be seen."""
    if not _is_text(file) or not file.readable():
        return False
    with Path(_name(file)).open("rb") as sample:
        return b"\r" in sample.read(_SAMPLE)


def _mode(file: Any) -> str:
    """The mode in which it was opened, as ``w`` or ``rb+``."""
    return str(getattr(file, "mode", "r")) if _is_text(file) else str(_raw(file).mode)


# Streams refer to these functions by name: older ones must still load.


def open_again(path: str, mode: str, unbuffered: bool, text: tuple[Any, ...] | None) -> Any:
    """Open a file as it was opened before, but without emptying it."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags & ~(os.O_TRUNC | os.O_EXCL | os.O_CREAT), 0o666)

    if text is None:
        return open(path, mode, 0 if unbuffered else -1, opener=opener)
    encoding, errors, line_buffering, write_through = text
    file: Any = open(path, mode, 1 if line_buffering else -1, encoding, errors, opener=opener)  # noqa: SIM115
    if write_through:
        file.reconfigure(write_through=True)
    return file


def closed_buffer(kind: type[io.StringIO] | type[io.BytesIO]) -> Any:
    """A file in memory that was closed."""
    file = kind()
    file.close()
    return file


def set_position(file: Any, position: int) -> None:
    """Continue at ``position``, or be closed."""
    if position == CLOSED:
        file.close()
    elif not file.closed:
        if file.writable():
            file.flush()
        file.seek(position)
