"""The session's data as object streams (``mlnb.node.objects``), its bulk left where it is until it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.contents import Buffer, Bytes, Content, Storage
from mlnb.node import objects


class LiveSink:
    """An :class:`objects.Sink` that keeps storages and buffers as they are, live.

    Attributes
    ----------
    blobs
        what was kept, in order: the stream's blob ``n`` is ``blobs[n]``.
    """

    def __init__(self) -> None:
        self.blobs: list[Content] = []

    def storage(self, storage: Any, label: str | None) -> objects.Location:  # noqa: ARG002 - the protocol's
        """See :class:`objects.Sink`."""
        content = Storage(storage)
        if content.size <= objects.INLINE:
            return ("bytes", b"".join(bytes(chunk) for chunk in content.chunks()))
        return self._keep(content)

    def buffer(self, view: memoryview) -> objects.Location:
        """See :class:`objects.Sink`."""
        return self._keep(Buffer(view))

    def _keep(self, content: Content) -> objects.Location:
        self.blobs.append(content)
        return ("blob", len(self.blobs) - 1)


@dataclass
class DataStream:
    """One stream of the session's data: what ``session_data(number)`` gives.

    Attributes
    ----------
    number
        which stream.
    values
        its values by name, in order.
    stream, blobs
        the pickle, and the bulk beside it.
    sizes
        bytes of bulk by the name that brought it along first.
    """

    number: int
    values: Mapping[str, Any]
    stream: objects.Stream
    blobs: list[Content]
    sizes: dict[str, int] = field(default_factory=dict)

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


class Tracker:
    """Follows a dump: which name's value is being written, and what was seen.

    Parameters
    ----------
    values
        the values by name, in the order in which they are written.
    look
        called with the name and every object on the way.
    """

    def __init__(self, values: Mapping[str, Any], look: Callable[[str, Any], None]) -> None:
        # fresh strings as keys, so that the key of an entry isn't mistaken for an equal text in a value
        self.values = {"".join(list(name)): value for name, value in values.items()}
        self._order = list(self.values.items())
        self._next = 0
        self._key_seen = False
        self._look = look
        self.name = self._order[0][0] if self._order else ""
        self.seen: set[int] = set()

    def visit(self, obj: Any) -> None:
        """Take note of ``obj``: the ``visit`` of :func:`objects.dump`."""
        if self._next < len(self._order):
            key, value = self._order[self._next]
            if self._key_seen and obj is value:
                self.name, self._next = key, self._next + 1
            self._key_seen = obj is key
        if isinstance(obj, (list, dict, set, bytearray)):
            self.seen.add(id(obj))
        self._look(self.name, obj)


def write(
    number: int,
    values: Mapping[str, Any],
    labels: objects.Labels,
    reference: objects.Reference,
    look: Callable[[str, Any], None],
    earlier: Mapping[int, str],
) -> tuple[DataStream, set[int]]:
    """Write a stream of the session's data.

    Returns
    -------
    DataStream, set of int
        the stream, and the ``id`` of every container that is in it.
    """
    tracker = Tracker(values, look)
    sink = LiveSink()
    sizes: dict[str, int] = {}

    def visit(obj: Any) -> None:
        before = tracker.name
        tracker.visit(obj)
        if tracker.name != before:
            settle(before)

    def settle(name: str) -> None:
        sizes[name] = sum(blob.size for blob in sink.blobs) - sum(sizes.values())

    stream = objects.dump(
        tracker.values, sink, labels, prefix=f"{number}:", reference=reference, visit=visit, earlier=earlier
    )
    settle(tracker.name)
    return DataStream(number, dict(values), stream, sink.blobs, sizes), tracker.seen
