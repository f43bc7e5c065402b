"""Tensors' storages and other bulk as bytes: in memory, and in the files of a run directory."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.storage import UntypedStorage

Location = tuple[Any, ...]
"""Where bytes are: ``("bytes", b)`` here, ``("blob", n)`` the n-th blob of the stream, ``("span", file, offset,
nbytes)`` in a file of the run directory, ``("same", file)`` in that file, unchanged since the session sent it."""


def as_bytes(storage: UntypedStorage) -> torch.Tensor:
    """``storage`` as a uint8 tensor of shape (nbytes,) that shares its memory."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def mapped_storage(path: Path, nbytes: int) -> UntypedStorage:
    """The first ``nbytes`` of a file as a storage; writing to it changes no file."""
    storage = UntypedStorage.from_file(os.fspath(path), False, nbytes)
    assert isinstance(storage, UntypedStorage)
    return storage


class Files:
    """A :class:`Source` over files, mapped copy-on-write.

    Parameters
    ----------
    blobs
        the path of each blob of the stream.
    run
        the run directory, in which the other locations' files are.
    """

    def __init__(self, blobs: Sequence[Path] = (), run: Path | None = None) -> None:
        self._blobs, self._run = blobs, run
        self._last: tuple[Path, mmap.mmap] | None = None

    def path(self, location: Location) -> Path:
        """The file of a location other than ``("bytes", …)``."""
        if location[0] == "blob":
            return self._blobs[location[1]]
        if self._run is None:
            raise ValueError(f"no run directory for {location}")
        return self._run / str(location[1])

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """See :class:`Source`."""
        if nbytes == 0:
            return UntypedStorage(0)
        if location[0] == "bytes":
            return torch.frombuffer(bytearray(location[1]), dtype=torch.uint8).untyped_storage()
        path = self.path(location)
        if location[0] != "span":
            return mapped_storage(path, nbytes)
        return torch.frombuffer(_map(path), dtype=torch.uint8, count=nbytes, offset=location[2]).untyped_storage()

    def buffer(self, location: Location) -> Any:
        """See :class:`Source`."""
        mapped = _map(self.path(location))
        return memoryview(mapped)[location[2] : location[2] + location[3]] if location[0] == "span" else mapped

    def read_into(self, location: Location, storage: UntypedStorage) -> None:
        """See :class:`Source`."""
        if location[0] == "bytes" or storage.device.type != "cpu":
            as_bytes(storage).copy_(as_bytes(Files.storage(self, location, storage.nbytes())))
            return
        offset = location[2] if location[0] == "span" else 0
        if storage.nbytes():
            mapped = torch.frombuffer(self._mapped(self.path(location)), dtype=torch.uint8)
            as_bytes(storage).copy_(mapped[offset : offset + storage.nbytes()])  # on all cores, unlike a read

    def _mapped(self, path: Path) -> mmap.mmap:
        """``path`` mapped, once for all the spans in it that are read."""
        if self._last is None or self._last[0] != path:
            self._last = (path, _map(path))
        return self._last[1]


class Copies(Files):
    """The same files, read into memory: what is loaded outlives them."""

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """See :class:`Source`."""
        storage = torch.empty(nbytes, dtype=torch.uint8).untyped_storage()
        if nbytes:
            self.read_into(location, storage)
        return storage

    def buffer(self, location: Location) -> Any:
        """See :class:`Source`."""
        return bytearray(super().buffer(location))


def view_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a dense tensor, row-major; no copy where it is contiguous and on the CPU. Needs no numpy."""
    flat = tensor.detach().cpu().contiguous()
    buffer = (ctypes.c_char * flat.nbytes).from_address(flat.data_ptr())
    buffer.owner = flat  # type: ignore[attr-defined]  # keeps the memory alive as long as the view
    return memoryview(buffer).cast("B")


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
