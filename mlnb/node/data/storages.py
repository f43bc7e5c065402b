"""Loads tensor storages and buffers from the files of a run directory, and views storages as bytes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.storage import UntypedStorage

Location = tuple[Any, ...]
"""Where data is: ``("bytes", b)`` in the tuple itself; ``("blob", n)`` in the n-th blob of the stream; ``("span", file,
offset, nbytes)`` in a file of the run directory; ``("same", file)`` in that input file, unchanged by the run; ``("map",
…)`` in a mapped file (:class:`mlnb.node.data.kinds.mapped_files.Span`)."""


def as_bytes(storage: UntypedStorage) -> torch.Tensor:
    """Return ``storage`` as a uint8 tensor of shape (nbytes,) that shares its memory."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def mapped_storage(path: Path, nbytes: int) -> UntypedStorage:
    """Map the first ``nbytes`` of a file as a storage; writing to it changes no file."""
    storage = UntypedStorage.from_file(os.fspath(path), False, nbytes)
    assert isinstance(storage, UntypedStorage)
    return storage


class MappedFiles:
    """An ``objects.Source`` that maps files copy-on-write.

    Parameters
    ----------
    blobs
        the paths of the blobs of the stream; of one that is a part of a mapped file, that part.
    run
        the run directory, with the files of other locations.
    """

    def __init__(self, blobs: Sequence[Path | Location] = (), run: Path | None = None) -> None:
        self._blobs, self._run = blobs, run
        self._newest: tuple[Path, mmap.mmap] | None = None

    def path(self, location: Location) -> Path:
        """Return the file of a location other than ``("bytes", …)``."""
        if location[0] == "blob":
            blob = self._blobs[location[1]]
            assert isinstance(blob, Path)
            return blob
        if self._run is None:
            raise ValueError(f"no run directory for {location}")
        return self._run / str(location[1])

    def mapped(self, location: Location) -> Location | None:
        """The part of a mapped file that stands at a location (:class:`mlnb.node.data.kinds.mapped_files.Span`)."""
        if location[0] == "blob" and not isinstance(self._blobs[location[1]], Path):
            return self._blobs[location[1]]  # type: ignore[return-value]
        return location[1:] if location[0] == "map" else None

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """See :class:`mlnb.node.data.objects.Source`."""
        if nbytes == 0:
            return UntypedStorage(0)
        if location[0] == "bytes":
            return torch.frombuffer(bytearray(location[1]), dtype=torch.uint8).untyped_storage()
        path = self.path(location)
        if location[0] != "span":
            return mapped_storage(path, nbytes)
        return torch.frombuffer(_map(path), dtype=torch.uint8, count=nbytes, offset=location[2]).untyped_storage()

    def buffer(self, location: Location) -> Any:
        """See :class:`mlnb.node.data.objects.Source`."""
        mapped = _map(self.path(location))
        return memoryview(mapped)[location[2] : location[2] + location[3]] if location[0] == "span" else mapped

    def read_into(self, location: Location, storage: UntypedStorage) -> None:
        """See :class:`mlnb.node.data.objects.Source`."""
        if location[0] == "bytes" or storage.device.type != "cpu":
            as_bytes(storage).copy_(as_bytes(MappedFiles.storage(self, location, storage.nbytes())))
            return
        offset = location[2] if location[0] == "span" else 0
        if storage.nbytes():
            mapped = torch.frombuffer(self._mapped(self.path(location)), dtype=torch.uint8)
            as_bytes(storage).copy_(mapped[offset : offset + storage.nbytes()])  # uses all cores, unlike a read

    def _mapped(self, path: Path) -> mmap.mmap:
        """Map ``path``, once for consecutive reads from the same file."""
        if self._newest is None or self._newest[0] != path:
            self._newest = (path, _map(path))
        return self._newest[1]


class CopiedFiles(MappedFiles):
    """An ``objects.Source`` that reads files into memory: what is loaded outlives them."""

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """See :class:`mlnb.node.data.objects.Source`."""
        storage = torch.empty(nbytes, dtype=torch.uint8).untyped_storage()
        if nbytes:
            self.read_into(location, storage)
        return storage

    def buffer(self, location: Location) -> Any:
        """See :class:`mlnb.node.data.objects.Source`."""
        return bytearray(super().buffer(location))


def view_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a dense tensor, row-major; not a copy if it is contiguous and on the CPU. Needs no numpy."""
    flat = tensor.detach().cpu().contiguous()
    buffer = (ctypes.c_char * flat.nbytes).from_address(flat.data_ptr())
    buffer.owner = flat  # type: ignore[attr-defined]  # keeps the memory alive as long as the view
    return memoryview(buffer).cast("B")


_CHUNK = 2**20
"""Words of 8 bytes."""


@functools.lru_cache(maxsize=8)
def _weights(device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(_CHUNK)
    return (torch.randint(2**62, (_CHUNK,), generator=generator) * 2 + 1).to(device)


def checksum(storage: UntypedStorage) -> str:
    """A text that tells the contents of two storages apart: if one word differs, always; else almost always.

    Computed where the storage is, at about the speed of its memory.
    """
    data = as_bytes(storage)
    whole = data.numel() // 8 * 8
    integers, rest = data[:whole].view(torch.int64), bytes(data[whole:].tolist())
    weights = _weights(storage.device)
    sums = [(chunk * weights[: chunk.numel()]).sum() for chunk in integers.split(_CHUNK)]
    digest = hashlib.sha256(rest)
    for number in torch.stack(sums).tolist() if whole else ():
        digest.update(number.to_bytes(8, "little", signed=True))
    return digest.hexdigest()


class _Buffer(ctypes.Structure):
    """``Py_buffer`` of Python's stable ABI."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("nbytes", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("rest", ctypes.c_void_p * 5),
    )


def address_of(view: memoryview) -> int:
    """Return the address of a contiguous buffer, which may be read-only."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return buffer.address or 0


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
