"""Readers of files that grow, which read only new data, and of files that are replaced, which read after a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlnb.node.rank import frames
from mlnb.rundir import parse_lines, read_json

Rows = tuple[npt.NDArray[np.float64], ...]
"""``(times, steps, values)``, each of shape (n,)."""

Columns = dict[str, Rows]
"""The rows of each metric by its name."""


class JsonFile:
    """Reads a JSON file that is only ever replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._content: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The content: the same object until the file is replaced, also after it was deleted."""
        try:
            info = self._path.stat()
        except OSError:
            return self._content
        version = info.st_ino, info.st_mtime_ns
        if version != self._version:
            self._content, self._version = read_json(self._path) or {}, version
        return self._content


class JsonlTail:
    """Reads a JSON-lines file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """The objects in the complete lines that were appended since the last call."""
        return parse_lines(self.new_data())

    def new_data(self) -> bytes:
        """The complete lines that were appended since the last call, as they are."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return b""
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end]


class MetricsTail:
    """Reads a metrics file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Columns:
        """The rows that were appended since the last call, by metric; empty if there are none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return {}
        parts: dict[str, list[tuple[memoryview, memoryview, memoryview]]] = {}
        end = 0
        for frame, end in frames.decode(data):  # noqa: B007 - where the last complete frame ends
            times, steps, *columns = frame.columns
            for name, values in zip(frame.names, columns, strict=True):
                parts.setdefault(name, []).append((times, steps, values))
        self._offset += end
        return {
            name: (
                _join([row[0] for row in rows]),
                _join([row[1] for row in rows]),
                _join([row[2] for row in rows]),
            )
            for name, rows in parts.items()
        }


def _join(views: list[memoryview]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.frombuffer(view, dtype=np.float64) for view in views])
