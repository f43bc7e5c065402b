"""Bulk: the large data of a stream, which are stored outside of its pickle."""

from __future__ import annotations

from typing import Any, Protocol

from torch.storage import UntypedStorage

from mlnb.node.data.kinds import arrays, mapped_files
from mlnb.node.data.labels import Labels
from mlnb.node.data.storages import Location, address_of
from mlnb.node.torch_private import storage_id

INLINE = 4096
"""Bytes up to which data stays inside the pickle."""


SHARED = "shared"
"""The device of a storage that processes share (``share_memory_()``)."""


class Sink(Protocol):
    """Stores large data while a stream is written, and returns where."""

    def storage(self, storage: UntypedStorage, label: str | None) -> Location:
        """Store a storage (on any device)."""

    def buffer(self, view: memoryview) -> Location:
        """Store a contiguous buffer."""


class MapSink(Sink, Protocol):
    """A sink that can leave the memory of a mapped file in its file."""

    def mapped(self, storage: UntypedStorage, span: mapped_files.Span, label: str | None) -> Location | None:
        """Note a part of a file; ``None`` if its data have to be stored as others."""


class Source(Protocol):
    """Loads large data while a stream is read."""

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """Load a storage, on the CPU; writing to it changes no file."""

    def buffer(self, location: Location) -> Any:
        """Load a writable buffer; writing to it changes no file."""

    def read_into(self, location: Location, storage: UntypedStorage) -> None:
        """Copy the data at ``location`` into ``storage``."""


class Bulk:
    """The large data of one stream: writes each storage and each buffer once."""

    def __init__(self, sink: Sink, labels: Labels, prefix: str) -> None:
        self._sink, self._labels, self._prefix = sink, labels, prefix
        self._storages: dict[int, tuple[Any, ...]] = {}  # by id of the storage
        self._buffers: dict[tuple[int, int], Location] = {}  # by address and size
        self._alive: list[Any] = []  # so that no id and no address is reused
        self._shared = arrays.SharedMemory()
        self._owners: dict[int, str] = {}  # number of an array → the sink's name for the value that it is a part of

    def storage(self, storage: UntypedStorage) -> tuple[Any, ...]:
        """Write a storage, if it is new; return how the stream refers to it."""
        key = storage_id(storage)
        if key not in self._storages:
            label = self._labels.of(storage)
            location = self._store(storage, label)
            if label is None:
                label = f"{self._prefix}{len(self._storages)}"
                self._labels.add(label, storage)
            device = SHARED if _is_shared(storage) else storage.device.type
            self._storages[key] = (label, location, storage.nbytes(), device)
            self._alive.append(storage)
            self._shared.add_storage(storage, self._storages[key])
        return self._storages[key]

    def _store(self, storage: UntypedStorage, label: str | None) -> Location:
        """Store a storage, unless it is in a file that stands for it."""
        mapped = getattr(self._sink, "mapped", None)
        span = mapped_files.find_storage(storage) if mapped is not None else None
        location: Location | None = mapped(storage, span, label) if mapped is not None and span is not None else None
        return self._sink.storage(storage, label) if location is None else location

    def _is_mapped(self, start: int, end: int) -> bool:
        return hasattr(self._sink, "mapped") and mapped_files.find(start, end - start) is not None

    def array(self, array: Any) -> int:
        """The number of an array; its memory is written at the end, when all that shares it is known."""
        number = self._shared.add_array(array)
        self._owners.setdefault(number, getattr(self._sink, "name", ""))
        return number

    def table(self) -> arrays.Table:
        """Where the arrays are."""
        return self._shared.table(self._region, INLINE, self._is_mapped)

    def _region(self, memory: UntypedStorage, number: int) -> tuple[Any, ...]:
        if hasattr(self._sink, "name"):
            self._sink.name = self._owners.get(number, "")  # counts sizes by name
        self._alive.append(memory)
        return (f"{self._prefix}array{number}", self._store(memory, None), memory.nbytes(), "cpu")

    def buffer(self, view: memoryview) -> Location:
        """Write a buffer, if it is new; return where it is."""
        key = address_of(view), view.nbytes
        if key not in self._buffers:
            self._buffers[key] = self._sink.buffer(view)
            self._alive.append(view)
        return self._buffers[key]


def _is_shared(storage: UntypedStorage) -> bool:
    """Whether processes share a storage; a mapped file counts as shared, too, but has a name."""
    return storage.device.type == "cpu" and storage.is_shared() and storage.filename is None
