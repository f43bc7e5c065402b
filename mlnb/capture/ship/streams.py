"""Streams: the session's data, pickled (``mlnb.node.data.objects``); arrays and tensors aren't copied until written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.capture.ship.contents import Buffer, Bytes, Content, Mapped, Storage
from mlnb.node.data import objects, storages
from mlnb.node.data.kinds import mapped_files

PLAIN = frozenset({int, float, complex, bool, type(None), type(...)})
"""Types whose values need no check."""


class LiveSink:
    """An :class:`objects.Sink` that refers to live storages and buffers, without a copy.

    Attributes
    ----------
    name
        the value that is being pickled.
    blobs
        storages and buffers in order: the stream's blob ``n`` is ``blobs[n]``.
    maps
        memory of mapped files, whether it is among the blobs or copied.
    sizes
        name → bytes in storages and buffers.
    storages
        name → addresses of its tensor storages.
    shared_names
        names whose storages are in part in an earlier stream.
    """

    def __init__(self) -> None:
        self.name = ""
        self.blobs: list[Content] = []
        self.maps: list[Mapped] = []
        self.sizes: dict[str, int] = {}
        self.shared_names: set[str] = set()

    def storage(self, storage: Any, label: str | None) -> storages.Location:
        """See :class:`objects.Sink`."""
        if label is not None:
            self.shared_names.add(self.name)
        content = Storage(storage)
        if content.size <= objects.INLINE:
            self._add_size(content)
            return ("bytes", b"".join(bytes(chunk) for chunk in content.chunks()))
        return self._add_blob(content)

    def buffer(self, view: memoryview) -> storages.Location:
        """See :class:`objects.Sink`."""
        return self._add_blob(Buffer(view))

    def mapped(self, storage: Any, span: mapped_files.Span, label: str | None) -> storages.Location | None:
        """See :class:`mlnb.node.data.pickling.bulk.MapSink`."""
        if label is not None:
            self.shared_names.add(self.name)
        content = Mapped(storage, span, self.name)
        self.maps.append(content)
        if content.is_copied:
            return None
        self.blobs.append(content)
        return ("blob", len(self.blobs) - 1)

    def _add_blob(self, content: Content) -> storages.Location:
        self.blobs.append(content)
        self._add_size(content)
        return ("blob", len(self.blobs) - 1)

    def _add_size(self, content: Content) -> None:
        self.sizes[self.name] = self.sizes.get(self.name, 0) + content.size


@dataclass
class DataStream:
    """One stream of the session's data: what ``session_data(number)`` returns in the script.

    Attributes
    ----------
    number
        its number, from 0.
    values
        its values by name, in order.
    stream
        the pickle.
    sink
        the storages and buffers that the pickle refers to.
    containers
        ``id`` of every mutable container in it.
    kinds
        the types of the objects in it.
    """

    number: int
    values: Mapping[str, Any]
    stream: objects.Stream
    sink: LiveSink
    containers: set[int]
    kinds: set[type]

    @property
    def blobs(self) -> list[Content]:
        """The storages and buffers, in order."""
        return self.sink.blobs

    @property
    def size(self) -> int:
        """Bytes, storages and buffers included."""
        return len(self.stream.data) + sum(blob.size for blob in self.blobs if not _is_in_its_file(blob))

    def files(self) -> dict[str, Content]:
        """Path in the run directory → content; hashes storages and buffers, since they are stored by their hash."""
        files: dict[str, Content] = {f"inputs/{self.number}.pickle": Bytes(self.stream.data)}
        blobs: list[Any] = []
        for blob in self.blobs:
            if _is_in_its_file(blob):
                blobs.append(blob.span)  # type: ignore[attr-defined]
            else:
                blobs.append(f"inputs/{blob.digest()}")
                files[blobs[-1]] = blob
        table = {"names": list(self.values), "blobs": blobs, "buffers": self.stream.buffers}
        return {**files, f"inputs/{self.number}.json": Bytes(json.dumps(table))}


def _is_in_its_file(blob: Content) -> bool:
    return isinstance(blob, Mapped) and not blob.is_copied


_CONTAINERS = frozenset({list, dict, set, bytearray})


def write(
    number: int,
    values: Mapping[str, Any],
    labels: objects.Labels,
    reference: objects.Reference,
    check: Callable[[str, Any], None],
    earlier: Mapping[int, str],
) -> DataStream:
    """Pickle values of the session as a stream.

    Parameters
    ----------
    number
        the stream's number.
    values
        what to pickle, by name.
    labels
        labels for tensor storages, shared by all streams.
    reference
        the name in the script of a function or class.
    check
        called with the name whose value is being pickled and with every object in it (but numbers and the like);
        raises to refuse it.
    earlier
        ``id`` → name of values in earlier streams.

    Raises
    ------
    Exception
        whatever pickling one of the user's objects raises.
    """
    # new string objects as keys, so that a key isn't mistaken for an equal string in a value
    entries = {"".join(list(name)): value for name, value in values.items()}
    upcoming = iter(entries.items())
    key, value = next(upcoming, (None, None))
    at_key = False
    sink = LiveSink()
    containers: set[int] = set()
    kinds: set[type] = set()

    def visit(obj: Any) -> None:
        nonlocal upcoming, key, value, at_key
        if obj is entries:  # also when pickling begins again, for a structure that is deep
            upcoming, at_key = iter(entries.items()), False
            key, value = next(upcoming, (None, None))
            return
        if obj is key:
            at_key = True
            return
        if at_key:
            at_key = False
            if obj is value:
                sink.name = str(key)
                key, value = next(upcoming, (None, None))
        kind = type(obj)
        if kind in PLAIN:
            return
        kinds.add(kind)
        if kind in _CONTAINERS:
            containers.add(id(obj))
        check(sink.name, obj)

    stream = objects.dump(entries, sink, labels, prefix=f"{number}:", reference=reference, visit=visit, earlier=earlier)
    return DataStream(number, dict(values), stream, sink, containers, kinds)
