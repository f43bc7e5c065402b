"""Sinks: where a run puts the large data of the streams that it writes."""

from __future__ import annotations

from pathlib import Path

import torch

from mlnb.node.data import objects, safetensors, storages
from mlnb.node.data.inputs import Inputs
from mlnb.node.data.kinds.mapped_files import Span, write_back
from mlnb.node.torch_private import storage_id
from mlnb.rundir import RunDir


class OutputFiles:
    """An ``objects.Sink`` that writes storages to files, except those that the run has not changed.

    What is in a mapped file stays there, where the session sees the file.

    Parameters
    ----------
    folder, name
        where the files are written; what the folder is called in the run directory.
    """

    def __init__(self, folder: Path, name: str, inputs: Inputs) -> None:
        self._folder, self._name, self._inputs = folder, name, inputs
        self._locations: dict[int, storages.Location] = {}
        self._file_count = 0

    def write_safetensors(self, name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        """Write ``tensors`` to ``NAME.safetensors``; a storage that one of them fills completely is located there."""
        file = f"{name}.safetensors"
        offsets = safetensors.write(self._folder / file, tensors, metadata)
        for key, tensor in tensors.items():
            storage = tensor.untyped_storage()
            if tensor.is_contiguous() and tensor.nbytes == storage.nbytes():
                location = ("span", f"{self._name}/{file}", offsets[key], tensor.nbytes)
                self._locations.setdefault(storage_id(storage), location)

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:  # noqa: ARG002 - as in the protocol
        """See :class:`objects.Sink`."""
        location = self._locations.get(storage_id(storage))
        if location is not None:
            return location
        same = self._inputs.unchanged_storage(storage)
        if same is not None:
            return ("same", same)
        return self.buffer(storages.view_of(storages.as_bytes(storage)), inline=True)

    def buffer(self, view: memoryview, *, inline: bool = False) -> storages.Location:
        """See :class:`objects.Sink`; with ``inline``, small buffers stay in the pickle."""
        if inline and view.nbytes <= objects.INLINE:
            return ("bytes", bytes(view))
        same = self._inputs.unchanged_buffer(view)
        if same is not None:
            return ("same", same)
        file = f"{self._file_count}.bin"
        self._file_count += 1
        (self._folder / file).write_bytes(view)
        return ("span", f"{self._name}/{file}", 0, view.nbytes)

    def mapped(self, storage: torch.UntypedStorage, span: Span, label: str | None) -> storages.Location | None:  # noqa: ARG002 - as in the protocol
        """See :class:`mlnb.node.data.pickling.bulk.MapSink`."""
        if not span.is_there or not self._inputs.is_seen_by_session(span.path):
            return None
        if span.shared and span.writable:
            write_back(storage)
        return ("map", *span)


class WrittenFiles(storages.MappedFiles):
    """Reads outputs before their folder has its final name."""

    def __init__(self, folder: Path, run: RunDir) -> None:
        super().__init__(run=run.path)
        self._folder = folder

    def path(self, location: storages.Location) -> Path:
        """See :class:`mlnb.node.data.storages.MappedFiles`."""
        return self._folder / Path(location[1]).name if location[0] == "span" else super().path(location)


class NullSink:
    """A sink that stores nothing: to test whether an object can be pickled, or compare pickles without large data."""

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:  # noqa: ARG002 - as in the protocol
        """See :class:`objects.Sink`."""
        small = storage.nbytes() <= objects.INLINE
        return ("bytes", bytes(storages.view_of(storages.as_bytes(storage)))) if small else ("same",)

    def buffer(self, view: memoryview) -> storages.Location:  # noqa: ARG002 - as in the protocol
        """See :class:`objects.Sink`."""
        return ("same",)

    def mapped(self, storage: torch.UntypedStorage, span: Span, label: str | None) -> storages.Location:  # noqa: ARG002 - as in the protocol
        """See :class:`mlnb.node.data.pickling.bulk.MapSink`."""
        return ("same",)


class ChangeSink(NullSink):
    """A sink that stores nothing, but marks large data that no longer equals its input file."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:
        """See :class:`objects.Sink`."""
        location = super().storage(storage, label)
        if location == ("same",) and self._inputs.unchanged_storage(storage) is None:
            return ("changed",)
        return location

    def buffer(self, view: memoryview) -> storages.Location:
        """See :class:`objects.Sink`."""
        return ("same",) if self._inputs.unchanged_buffer(view) else ("changed",)
