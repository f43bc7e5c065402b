"""The session's data as object streams (``mlnb.node.data.objects``), its bulk left where it is until it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.capture.ship.contents import Buffer, Bytes, Content, Storage
from mlnb.node.data import objects, storages
from mlnb.node.torch_private import storage_id

PLAIN = frozenset({int, float, complex, bool, type(None), type(...)})
"""Types whose values are never refused."""


class LiveSink:
    """An :class:`objects.Sink` that keeps storages and buffers as they are, live.

    Attributes
    ----------
    name
        on whose behalf what comes next is kept.
    blobs
        what was kept, in order: the stream's blob ``n`` is ``blobs[n]``.
    sizes
        bytes of bulk by name.
    storages
        what tells the storages apart that were met, by name.
    known
        names whose data an earlier stream holds in part.
    """

    def __init__(self) -> None:
        self.name = ""
        self.blobs: list[Content] = []
        self.sizes: dict[str, int] = {}
        self.storages: dict[str, set[int]] = {}
        self.known: set[str] = set()

    def storage(self, storage: Any, label: str | None) -> storages.Location:
        """See :class:`objects.Sink`."""
        self.storages.setdefault(self.name, set()).add(storage_id(storage))
        if label is not None:
            self.known.add(self.name)
        content = Storage(storage)
        if content.size <= objects.INLINE:
            self._count(content)
            return ("bytes", b"".join(bytes(chunk) for chunk in content.chunks()))
        return self._keep(content)

    def buffer(self, view: memoryview) -> storages.Location:
        """See :class:`objects.Sink`."""
        return self._keep(Buffer(view))

    def _keep(self, content: Content) -> storages.Location:
        self.blobs.append(content)
        self._count(content)
        return ("blob", len(self.blobs) - 1)

    def _count(self, content: Content) -> None:
        self.sizes[self.name] = self.sizes.get(self.name, 0) + content.size


@dataclass
class DataStream:
    """One stream of the session's data: what ``session_data(number)`` gives.

    Attributes
    ----------
    number
        which stream.
    values
        its values by name, in order.
    stream
        the pickle.
    sink
        the bulk beside it, and whose it is.
    containers
        ``id`` of every container in it.
    """

    number: int
    values: Mapping[str, Any]
    stream: objects.Stream
    sink: LiveSink
    containers: set[int]

    @property
    def blobs(self) -> list[Content]:
        """The bulk, in order."""
        return self.sink.blobs

    @property
    def size(self) -> int:
        """Bytes, the bulk included."""
        return len(self.stream.data) + sum(blob.size for blob in self.blobs)

    def files(self) -> dict[str, Content]:
        """The stream's files by path in the run directory; hashes the bulk, since it is stored by content."""
        paths = [f"inputs/{blob.digest()}" for blob in self.blobs]
        table = {"names": list(self.values), "blobs": paths, "buffers": self.stream.buffers}
        return {
            f"inputs/{self.number}.pickle": Bytes(self.stream.data),
            f"inputs/{self.number}.json": Bytes(json.dumps(table)),
            **dict(zip(paths, self.blobs, strict=True)),
        }


_CONTAINERS = frozenset({list, dict, set, bytearray})


def write(
    number: int,
    values: Mapping[str, Any],
    labels: objects.Labels,
    reference: objects.Reference,
    look: Callable[[str, Any], None],
    earlier: Mapping[int, str],
) -> DataStream:
    """Write a stream of the session's data.

    Parameters
    ----------
    look
        called with the name whose value is being written, and every object in it but numbers and the like.
    earlier
        ``id`` → name of values that earlier streams hold.

    Raises
    ------
    Exception
        whatever pickling an object of the user's raises.
    """
    # fresh strings as keys, so that the key of an entry isn't mistaken for an equal text in a value
    fresh = {"".join(list(name)): value for name, value in values.items()}
    ahead = iter(fresh.items())
    key, value = next(ahead, (None, None))
    at_key = False
    sink = LiveSink()
    containers: set[int] = set()

    def visit(obj: Any) -> None:
        nonlocal key, value, at_key
        if obj is key:
            at_key = True
            return
        if at_key:
            at_key = False
            if obj is value:
                sink.name = str(key)
                key, value = next(ahead, (None, None))
        kind = type(obj)
        if kind in PLAIN:
            return
        if kind in _CONTAINERS:
            containers.add(id(obj))
        look(sink.name, obj)

    stream = objects.dump(fresh, sink, labels, prefix=f"{number}:", reference=reference, visit=visit, earlier=earlier)
    return DataStream(number, dict(values), stream, sink, containers)
