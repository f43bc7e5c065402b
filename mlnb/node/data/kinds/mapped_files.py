"""Memory of mapped files: where both sides see the file, it stands for the data, and each side maps it itself.

Whether memory is a file's is known from the kernel's list of mappings, not from the objects: so it is the same for
``np.memmap``, for what was made of one (views, ``torch.from_numpy``), and for ``torch.load(…, mmap=True)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import sys
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.storage import UntypedStorage

from mlnb.node.data import storages

_PRIVATE_MIN = 2**20
"""Bytes from which on a mapping whose changes don't reach the file is opened anew: below, a copy is as good."""

_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) r([w-])-([sp]) ([0-9a-f]+) \S+ (\d+) +(/(?!dev/|proc/|memfd:|SYSV).*)$", re.M
)
_DELETED = " (deleted)"
_PAGE = mmap.ALLOCATIONGRANULARITY


class Span(NamedTuple):
    """A part of a mapped file.

    Attributes
    ----------
    path, inode
        the file.
    offset, nbytes
        the part.
    writable, shared
        whether the memory can be written, and whether that reaches the file.
    version
        size and time of change of a file whose changes don't concern the mapping; empty if it is shared.
    """

    path: str
    inode: int
    offset: int
    nbytes: int
    writable: bool
    shared: bool
    version: tuple[int, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to the file."""
        try:
            info = Path(self.path).stat()
        except OSError:
            return False
        is_same = not self.version or (info.st_size, info.st_mtime_ns) == tuple(self.version)
        return is_same and info.st_ino == self.inode and info.st_size >= self.offset + self.nbytes


_Mapping = tuple[int, int, bool, bool, int, int, str]

_looked: ContextVar[list[_Mapping] | None] = ContextVar("looked", default=None)


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Look once at this process's mappings: within the block nothing is mapped."""
    token = _looked.set(_mappings())
    try:
        yield
    finally:
        _looked.reset(token)


def _mappings() -> list[_Mapping]:
    """The mappings of files that are no code: first and last address, writable, shared, offset, inode, path."""
    found = []
    with contextlib.suppress(OSError):
        for start, end, write, kind, offset, inode, path in _LINE.findall(Path("/proc/self/maps").read_bytes()):
            if kind == b"s" or (write == b"w" and b".so" not in path):
                name = os.fsdecode(re.sub(rb"\\012", b"\n", path))
                memory = int(start, 16), int(end, 16), write == b"w", kind == b"s"
                found.append((*memory, int(offset, 16), int(inode), name))
    return found


def find(address: int, nbytes: int) -> Span | None:
    """The part of a file that memory shows; ``None`` for other memory, and for a private copy that was changed.

    The path of a file that was deleted ends with " (deleted)"; it is not there.
    """
    looked = _looked.get()
    for start, end, writable, shared, offset, inode, path in _mappings() if looked is None else looked:
        if not start <= address or address + nbytes > end or not nbytes:
            continue
        span = Span(path, inode, offset + address - start, nbytes, writable, shared)
        if shared:
            return span
        if nbytes < _PRIVATE_MIN or path.endswith(_DELETED) or _is_changed(address, nbytes):
            return None
        with contextlib.suppress(OSError):
            info = Path(path).stat()
            return span._replace(version=(info.st_size, info.st_mtime_ns))
    return None


def find_storage(storage: UntypedStorage) -> Span | None:
    """The part of a file that a storage shows; see :func:`find`."""
    return find(storage.data_ptr(), storage.nbytes()) if storage.device.type == "cpu" else None


def find_array(array: Any) -> Span | None:
    """The part of a file that a NumPy array without gaps shows; see :func:`find`."""
    return find(int(array.__array_interface__["data"][0]), array.nbytes)


def _is_changed(address: int, nbytes: int) -> bool:
    """Whether pages of a private mapping are no longer the file's (proc_pid_pagemap(5))."""
    first, last = address // _PAGE, -(-(address + nbytes) // _PAGE)
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            file.seek(first * 8)
            pages = torch.frombuffer(bytearray(file.read((last - first) * 8)), dtype=torch.int64)
    except (OSError, ValueError):
        return True
    state = (pages >> 61) & 7  # 1: the file's, 2: swapped out, 4: in memory
    return len(pages) != last - first or bool((((state & 2) != 0) | ((state & 5) == 4)).any())


# ---- mapping a file again

_opened: weakref.WeakValueDictionary[int, mmap.mmap] = weakref.WeakValueDictionary()
"""What was mapped here, by the address of the storage over it."""


def map_again(span: Span) -> UntypedStorage:
    """Map the part of a file as it was mapped elsewhere.

    Raises
    ------
    FileNotFoundError
        if it isn't on this machine, or another file has its name by now.
    """
    if not span.is_there:
        raise FileNotFoundError(
            f"{span.path}, which is mapped in the session, is missing on this machine, or was replaced since the cell "
            "was submitted"
        )
    start = span.offset - span.offset % _PAGE
    access = mmap.ACCESS_READ if not span.writable else mmap.ACCESS_WRITE if span.shared else mmap.ACCESS_COPY
    # not by ``open``: of ranks other than the first, that one gives a copy to what is written
    file = os.open(span.path, os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY)
    try:
        mapped = mmap.mmap(file, span.offset + span.nbytes - start, access=access, offset=start)
    finally:
        os.close(file)
    address = storages.address_of(memoryview(mapped)) + span.offset - start
    buffer = (ctypes.c_char * span.nbytes).from_address(address)
    buffer.owner = mapped  # type: ignore[attr-defined]  # keeps it alive
    _opened[address] = mapped
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


def span_at(source: Any, location: storages.Location) -> Span | None:
    """The part of a file that stands at a location for data; ``None`` for another one."""
    found = source.mapped(location) if hasattr(source, "mapped") else None
    return None if found is None else Span(*found)


def opened(storage: UntypedStorage) -> tuple[mmap.mmap, int] | None:
    """The mapping that :func:`map_again` has made a storage over, and where in it the storage begins."""
    address = storage.data_ptr()
    mapped = _opened.get(address)
    return None if mapped is None else (mapped, address % _PAGE)


def write_back(storage: UntypedStorage) -> None:
    """Write what was changed in a shared mapping to the file (msync(2)), so that other machines see it."""
    start = storage.data_ptr() // _PAGE * _PAGE
    length = storage.data_ptr() + storage.nbytes() - start
    if ctypes.CDLL(None, use_errno=True).msync(ctypes.c_void_p(start), ctypes.c_size_t(length), 4):  # MS_SYNC
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def look_again(span: Span) -> None:
    """Have the system look whether another machine has written a file: opening it does that (nfs(5))."""
    with contextlib.suppress(OSError):
        os.close(os.open(span.path, os.O_RDONLY))


def same_map(first: Any, second: Any) -> bool:
    """Whether two arrays show the same part of a file in the same way, so that what is in one is in the other."""
    base = second
    while isinstance(base, sys.modules["numpy"].ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or first.strides != second.strides:
        return False
    one, other = find_array(first), find_array(second)
    return one is not None and other is not None and one._replace(writable=True) == other._replace(writable=True)


# ---- np.memmap


def make_map(memory: tuple[Any, tuple[int, ...] | None, int], shape: Any, dtype: Any, attributes: Any) -> Any:
    """Make an ``np.memmap`` over memory, as :func:`mlnb.node.data.kinds.arrays.make_array` makes an array.

    Streams refer to this by name.
    """
    buffer, strides, offset = memory
    numpy = sys.modules["numpy"]
    array = numpy.ndarray.__new__(numpy.memmap, shape, dtype, buffer, offset, strides)
    array._mmap = buffer if isinstance(buffer, mmap.mmap) else None
    writeable, array.filename, array.offset, array.mode = attributes
    array.flags.writeable = writeable
    return array


def attributes_of(array: Any) -> tuple[Any, ...]:
    """What :func:`make_map` needs besides memory, shape and type."""
    return array.flags.writeable, *(getattr(array, name, None) for name in ("filename", "offset", "mode"))
