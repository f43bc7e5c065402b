"""Arrays that share memory, with each other or with tensors: they still do when they have travelled.

While a stream is written, :class:`SharedMemory` learns where in memory each array and each tensor's storage is. Arrays
that overlap anything are parts of one *region*, which is written once. Any other array is written as densely as it is.
"""

from __future__ import annotations

import ctypes
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch.storage import UntypedStorage

from mlnb.node.data import storages
from mlnb.node.data.kinds import mapped_files

_MAGIC = b"mlnb-arrays"


@dataclass(frozen=True)
class MemoryOf:
    """Stands in a stream for the memory of an array."""

    array: Any


def reduce_array(array: Any) -> Any:
    """Reduce a NumPy array for pickle; ``NotImplemented`` for one that is empty or holds Python objects."""
    numpy = sys.modules["numpy"]
    if type(array) not in (numpy.ndarray, numpy.memmap) or not array.nbytes or array.dtype.hasobject:
        return NotImplemented
    if type(array) is numpy.memmap:
        return mapped_files.make_map, (MemoryOf(array), array.shape, array.dtype, mapped_files.attributes_of(array))
    return make_array, (MemoryOf(array), array.shape, array.dtype, array.flags.writeable)


def make_array(memory: tuple[Any, tuple[int, ...] | None, int], shape: Any, dtype: Any, writeable: bool) -> Any:
    """Make an array over memory: the memory, the strides and the offset. Streams refer to this by name."""
    view, strides, offset = memory
    array = sys.modules["numpy"].ndarray(shape, dtype, view, offset, strides)
    array.flags.writeable = writeable
    return array


class Table(NamedTuple):
    """Where the arrays of a stream are.

    Attributes
    ----------
    regions
        the storages that they are in, as a stream refers to storages; or the bytes of a small array of its own.
    arrays
        of each array the index of its region, the offset of its first element, and its strides if it isn't dense.
    inside
        label of a storage that is a part of a region → region, offset and size.
    """

    regions: Sequence[tuple[Any, ...] | bytes] = ()
    arrays: Sequence[tuple[int, int, tuple[int, ...] | None]] = ()
    inside: Mapping[str, tuple[int, int, int]] = MappingProxyType({})

    def storage(self, region: int) -> tuple[Any, ...]:
        """How the stream refers to the storage that is a region."""
        where = self.regions[region]
        assert isinstance(where, tuple)
        return where

    def before(self, data: bytes) -> bytes:
        """The data of a stream after this table."""
        if not self.regions:
            return data
        table = pickle.dumps(tuple(self), 5)
        return b"".join([_MAGIC, len(table).to_bytes(8, "big"), table, data])


def split(data: bytes) -> tuple[Table, bytes]:
    """The table before the data of a stream, and those data."""
    if not data.startswith(_MAGIC):
        return Table(), data
    start = len(_MAGIC) + 8
    end = start + int.from_bytes(data[start - 8 : start], "big")
    return Table(*pickle.loads(data[start:end])), data[end:]


@dataclass
class _Block:
    """A part of memory that arrays and storages have in common."""

    start: int
    end: int
    arrays: list[int] = field(default_factory=list)
    storages: list[tuple[int, int, tuple[Any, ...]]] = field(default_factory=list)


class SharedMemory:
    """The arrays and storages of one stream, by where they are in memory."""

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._storages: list[tuple[int, int, tuple[Any, ...]]] = []

    def add_storage(self, storage: UntypedStorage, reference: tuple[Any, ...]) -> None:
        """A tensor's storage was written; ``reference`` is how the stream refers to it."""
        if storage.device.type == "cpu" and storage.nbytes():
            start = storage.data_ptr()
            self._storages.append((start, start + storage.nbytes(), reference))

    def add_array(self, array: Any) -> int:
        """The number of an array in the stream."""
        if id(array) not in self._numbers:
            self._numbers[id(array)] = len(self._arrays)
            self._arrays.append(array)
        return self._numbers[id(array)]

    def table(
        self,
        write: Callable[[UntypedStorage, int], tuple[Any, ...]],
        small: int,
        is_kept: Callable[[int, int], bool] = lambda _start, _end: False,
    ) -> Table:
        """The table of all arrays.

        Parameters
        ----------
        write
            writes memory, and returns how the stream refers to it; the second argument is the number of an array in
            it, or a negative one.
        small
            bytes up to which an array that shares nothing is in the table itself.
        is_kept
            whether memory between two addresses is a mapped file's, and so stays laid out as it is.
        """
        regions: list[tuple[Any, ...] | bytes] = []
        positions: dict[int, tuple[int, int, tuple[int, ...] | None]] = {}
        inside: dict[str, tuple[int, int, int]] = {}
        for block in self._blocks():
            arrays = [self._arrays[number] for number in block.arrays]
            start, end = block.start, block.end
            if len(arrays) == 1 and not block.storages and not is_kept(start, end):
                arrays = [_dense(arrays[0])]
                start, end = _extent(arrays[0])
                if end - start <= small:
                    regions.append(arrays[0].tobytes(order="A"))
                    positions[block.arrays[0]] = len(regions) - 1, 0, _strides(arrays[0])
                    continue
            whole = next((pid for first, last, pid in block.storages if (first, last) == (start, end)), None)
            if whole is None:
                number = block.arrays[0] if arrays else -1 - len(regions)
                whole = write(_storage_over(start, end - start, arrays), number)
            for first, last, pid in block.storages:
                if pid[0] != whole[0]:
                    inside[pid[0]] = len(regions), first - start, last - first
            for number, array in zip(block.arrays, arrays, strict=True):
                positions[number] = len(regions), _address(array) - start, _strides(array)
            regions.append(whole)
        return Table(regions, [positions[number] for number in range(len(self._arrays))], inside)

    def _blocks(self) -> list[_Block]:
        """The blocks with arrays in them, or with different storages."""
        spans: list[tuple[int, int, Any]] = [(*_extent(array), number) for number, array in enumerate(self._arrays)]
        spans += [(start, end, (start, end, pid)) for start, end, pid in self._storages]
        blocks: list[_Block] = []
        for start, end, what in sorted(spans, key=lambda span: span[:2]):
            if not blocks or start >= blocks[-1].end:
                blocks.append(_Block(start, end))
            block = blocks[-1]
            block.end = max(block.end, end)
            if isinstance(what, int):
                block.arrays.append(what)
            else:
                block.storages.append(what)
        # in the order in which the arrays were met, so that equal values have equal tables
        found = [block for block in blocks if block.arrays or len({pid[0] for _, _, pid in block.storages}) > 1]
        for block in found:
            block.arrays.sort()
        return sorted(found, key=lambda block: (block.arrays[:1], [pid[0] for _, _, pid in block.storages]))


def _dense(array: Any) -> Any:
    """The array, or a copy of it, without gaps in its memory."""
    flags = array.flags
    return array if flags.c_contiguous or flags.f_contiguous else array.copy()


def _strides(array: Any) -> tuple[int, ...] | None:
    return None if array.flags.c_contiguous else array.strides


def _address(array: Any) -> int:
    """The address of the first element."""
    return int(array.__array_interface__["data"][0])


def _extent(array: Any) -> tuple[int, int]:
    """The addresses of the first byte of an array's memory, and of the first after it."""
    start = end = _address(array)
    if array.flags.c_contiguous:
        return start, end + array.nbytes
    for length, stride in zip(array.shape, array.strides, strict=True):
        start += min(0, (length - 1) * stride)
        end += max(0, (length - 1) * stride)
    return start, end + array.itemsize


def _storage_over(address: int, nbytes: int, owner: Any) -> UntypedStorage:
    """A storage over memory of others; keeps ``owner`` alive."""
    buffer = (ctypes.c_char * nbytes).from_address(address)
    buffer.owner = owner  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


def memory_of(storage: UntypedStorage) -> memoryview:
    """The memory of a storage on the CPU."""
    return storages.view_of(storages.as_bytes(storage))


def part_of(storage: UntypedStorage, offset: int, nbytes: int) -> UntypedStorage:
    """A storage over a part of another's memory."""
    return torch.frombuffer(memory_of(storage)[offset : offset + nbytes], dtype=torch.uint8).untyped_storage()
