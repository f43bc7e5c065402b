"""A run without processes: what the session sends, the cell's changes to it, and what comes back."""

from __future__ import annotations

from typing import Any

import torch

from mlnb.node.data import objects, storages
from mlnb.node.data.merging.merge import Merger
from mlnb.node.data.outputs import DROPPED


class Memory:
    """The large data of streams, in memory."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []

    def storage(self, storage: Any, place: Any) -> Any:
        if isinstance(storage, tuple):
            return torch.frombuffer(bytearray(self.blobs[storage[1]]), dtype=torch.uint8).untyped_storage()
        return self.buffer(storages.view_of(storages.as_bytes(storage)))

    def buffer(self, view: Any) -> Any:
        if isinstance(view, tuple):
            return bytearray(self.blobs[view[1]])
        self.blobs.append(bytes(view))
        return ("memory", len(self.blobs) - 1)

    def read_into(self, location: Any, storage: torch.UntypedStorage) -> None:
        storages.as_bytes(storage).copy_(storages.as_bytes(self.storage(location, None)))


class Sent:
    """Values of the session in a run; the test changes them as a cell would.

    Attributes
    ----------
    run
        the namespace of the run.
    """

    def __init__(self, **values: Any) -> None:
        self._memory: Any = Memory()
        self._here, self._there = objects.Labels(), objects.Labels()
        stream = objects.dump(values, self._memory, self._here, prefix="0:")
        self.run: dict[str, Any] = objects.load(stream, self._memory, self._there, {}, prefix="0:")
        self._there.watch()

    def __getattr__(self, name: str) -> Any:
        return self.run[name]

    def back(self, *names: str) -> dict[str, Any]:
        """What the session gets back under ``names``, or under all names."""
        returned = {name: value for name, value in self.run.items() if not names or name in names}
        stream = objects.dump(returned, self._memory, self._there, prefix="out:", merging=True)
        if not names:
            returned = {**returned, DROPPED: self._there.changed(stream.labels)}
            stream = objects.dump(returned, self._memory, self._there, prefix="out:", merging=True)
        merger = Merger(self._here.objects)
        values: dict[str, Any] = objects.load(
            stream, self._memory, objects.Labels(), {}, live=self._here, rebuilder=merger
        )
        assert not merger.faults
        merger.apply()
        values.pop(DROPPED, None)
        return values

    def copies(self) -> dict[str, Any]:
        """What a session gets that did not send the values."""
        stream = objects.dump(self.run, self._memory, self._there, prefix="out:", merging=True)
        values: dict[str, Any] = objects.load(stream, self._memory, objects.Labels(), {})
        return values
