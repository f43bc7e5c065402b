"""Contents of a run's files: bytes, files and live memory, neither copied nor hashed before they are written."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

CHUNK = 16 * 1024 * 1024
"""Bytes read or copied at a time."""


class Content(Protocol):
    """The content of a file in the run directory."""

    @property
    def size(self) -> int:
        """Bytes."""

    def digest(self) -> str:
        """SHA-256 in hexadecimal digits; computed by the first call."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes, in chunks."""

    def write(self, path: Path) -> None:
        """Write the bytes to a new file ``path``."""


class _ContentBase(abc.ABC):
    """Hashing and writing, by way of :meth:`chunks`."""

    @abc.abstractmethod
    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes, in chunks."""

    @cached_property
    def _digest(self) -> str:
        sha256 = hashlib.sha256()
        for chunk in self.chunks():
            sha256.update(chunk)
        return sha256.hexdigest()

    def digest(self) -> str:
        """See :class:`Content`."""
        return self._digest

    def write(self, path: Path) -> None:
        """See :class:`Content`."""
        with path.open("xb") as file:
            for chunk in self.chunks():
                file.write(chunk)


class Bytes(_ContentBase):
    """Bytes in memory, or a string in UTF-8."""

    def __init__(self, data: bytes | str) -> None:
        self._data = data.encode() if isinstance(data, str) else data

    @property
    def size(self) -> int:
        """See :class:`Content`."""
        return len(self._data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """See :class:`Content`."""
        yield self._data


class FileContent(_ContentBase):
    """A file on the session's machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def size(self) -> int:
        """See :class:`Content`."""
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes | memoryview]:
        """See :class:`Content`."""
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


class Buffer(_ContentBase):
    """Live memory of an array or a data frame."""

    def __init__(self, view: memoryview) -> None:
        self._view = view.cast("B") if view.nbytes else memoryview(b"")

    @property
    def size(self) -> int:
        """See :class:`Content`."""
        return self._view.nbytes

    def chunks(self) -> Iterator[bytes | memoryview]:
        """See :class:`Content`."""
        for start in range(0, self.size, CHUNK):
            yield self._view[start : start + CHUNK]


class Storage(_ContentBase):
    """A live tensor storage on any device; one on a GPU is copied to the CPU chunk by chunk."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    @property
    def size(self) -> int:
        """See :class:`Content`."""
        return int(self._storage.nbytes())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """See :class:`Content`."""
        from mlnb.node.data.storages import as_bytes

        data = as_bytes(self._storage)
        for start in range(0, self.size, CHUNK):
            chunk: Any = data[start : start + CHUNK].cpu().numpy()
            yield memoryview(chunk)


class Mapped(Storage):
    """Memory of a mapped file, which is left in the file where the run sees that.

    Attributes
    ----------
    span
        the part of the file (:class:`mlnb.node.data.kinds.mapped_files.Span`).
    name
        the value that it belongs to.
    is_copied
        whether it is sent nevertheless: the file isn't there any more, or the run can't see it.
    """

    def __init__(self, storage: Any, span: Any, name: str) -> None:
        super().__init__(storage)
        self.span, self.name = span, name
        self.is_copied = not span.is_there

    def write_back(self) -> None:
        """Write to the file what was changed in memory, for other machines."""
        from mlnb.node.data.kinds.mapped_files import write_back

        if self.span.shared and self.span.writable:
            write_back(self._storage)
