"""Object streams: pickles of the session's values that keep identity, with large data stored outside of the pickle.

So that large data can be stored by content, these are outside:

* tensors' storages, each once, however many tensors, parameters or optimizers share it;
* buffers of arrays and frames (pickle protocol 5, PEP 574).

Functions and classes of the notebook (``__main__``) that the other process defines are referred to by name; their
source is sent separately. What can't be referred to, as a function made by another, is sent by value
(:mod:`mlnb.node.data.by_value`). Storages have a *label* that both sides know. So results can be written into the
storages that were sent, and all tensors of the session that share them are updated.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.storage import TypedStorage, UntypedStorage
from torch.utils.data import DataLoader

from mlnb.node.data.by_value import Builder, Reducer
from mlnb.node.data.code import ScriptCode
from mlnb.node.data.storages import Location, as_bytes
from mlnb.node.data.torch_objects import reduce_object
from mlnb.node.torch_private import (
    Feature,
    has_persistent_iterator,
    mark_steps,
    require,
    storage_id,
    typed_storage,
    untyped_storage,
    without_iterator,
)

INLINE = 4096
"""Bytes up to which data stays inside the pickle."""


class Sink(Protocol):
    """Stores large data while a stream is written, and returns where."""

    def storage(self, storage: UntypedStorage, label: str | None) -> Location:
        """Store a storage (on any device)."""

    def buffer(self, view: memoryview) -> Location:
        """Store a contiguous buffer."""


class Source(Protocol):
    """Loads large data while a stream is read."""

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """Load a storage, on the CPU; writing to it changes no file."""

    def buffer(self, location: Location) -> Any:
        """Load a writable buffer; writing to it changes no file."""

    def read_into(self, location: Location, storage: UntypedStorage) -> None:
        """Copy the data at ``location`` into ``storage``."""


@dataclass
class Labels:
    """Storages by label. Keeps the storages alive, so that their addresses are not reused."""

    storages: dict[str, UntypedStorage] = field(default_factory=dict)
    _label_of: dict[int, str] = field(default_factory=dict)

    def add(self, label: str, storage: UntypedStorage) -> None:
        """Give ``storage`` a label."""
        self.storages[label] = storage
        self._label_of[storage_id(storage)] = label

    def of(self, storage: UntypedStorage) -> str | None:
        """Return the label of ``storage``, or ``None``."""
        return self._label_of.get(storage_id(storage))


@dataclass(frozen=True)
class Stream:
    """A stream: the pickle, and the locations of its out-of-band buffers."""

    data: bytes
    buffers: tuple[Location, ...]


Reference = Callable[[Any], "str | None"]
"""Returns the dotted ``__main__`` name by which to refer to a function or class; ``None``: pickle it as usual."""


def _no_reference(_: Any) -> str | None:
    return None


class _Pickler(pickle.Pickler):
    def __init__(
        self,
        file: io.BytesIO,
        sink: Sink,
        labels: Labels,
        prefix: str,
        reference: Reference,
        visit: Callable[[Any], None] | None,
        earlier: Mapping[int, str],
        script: ScriptCode | None,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._buffer)
        self._sink, self._labels, self._prefix, self._reference = sink, labels, prefix, reference
        self._visit, self._earlier = visit, earlier
        self._reducer = Reducer(script)
        self._written: dict[int, tuple[Any, ...]] = {}  # by id of the storage
        self._alive: list[UntypedStorage] = []  # so that no id is reused
        self.buffers: list[Location] = []

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < INLINE:
            return True  # inside the pickle
        self.buffers.append(self._sink.buffer(view))
        return False

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if self._visit is not None:
            self._visit(obj)
        if self._earlier and id(obj) in self._earlier:
            return ("name", self._earlier[id(obj)])
        if isinstance(obj, (types.FunctionType, type, functools._lru_cache_wrapper)):
            name = self._reference(obj)
            return None if name is None else ("main", name)
        if isinstance(obj, TypedStorage):
            return ("typed", obj.dtype, *self._storage(untyped_storage(obj)))
        if isinstance(obj, UntypedStorage):
            return ("untyped", None, *self._storage(obj))
        if isinstance(obj, types.ModuleType):
            return ("module", obj.__name__)
        return self._reducer.persistent_id(obj)

    def _storage(self, storage: UntypedStorage) -> tuple[Any, ...]:
        key = storage_id(storage)
        if key not in self._written:
            label = self._labels.of(storage)
            location = self._sink.storage(storage, label)
            if label is None:
                label = f"{self._prefix}{len(self._written)}"
                self._labels.add(label, storage)
            self._written[key] = (label, location, storage.nbytes(), storage.device.type)
            self._alive.append(storage)
        return self._written[key]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Generator):
            return _generator, (obj.device.type, obj.get_state())
        if isinstance(obj, DataLoader) and has_persistent_iterator(obj):
            reduced = obj.__reduce_ex__(5)  # persistent workers can't be sent: the run starts new ones
            if not isinstance(reduced[2], dict):
                return reduced
            return (*reduced[:2], without_iterator(reduced[2]), *reduced[3:])
        if isinstance(obj, LRScheduler):
            reduced = (*obj.__reduce_ex__(5), None, None)[:5]
            return (*reduced, _set_scheduler) if isinstance(reduced[2], dict) else NotImplemented
        reduced = reduce_object(obj)
        return self._reducer.reduce(obj) if reduced is NotImplemented else reduced


def _set_scheduler(scheduler: Any, state: dict[str, Any]) -> None:
    """Set a scheduler's state. Without :func:`mark_steps` it would warn at its first step.

    Streams refer to this function, and to :func:`_generator`, by name: older ones must still load.
    """
    vars(scheduler).update(state)
    mark_steps(scheduler.optimizer)


def _generator(device: str, state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator(device if device == "cpu" or torch.cuda.is_available() else "cpu")
    if generator.device.type == device:
        generator.set_state(state)
    return generator


def dump(
    value: Any,
    sink: Sink,
    labels: Labels,
    *,
    prefix: str,
    reference: Reference = _no_reference,
    visit: Callable[[Any], None] | None = None,
    earlier: Mapping[int, str] = MappingProxyType({}),
    script: ScriptCode | None = None,
) -> Stream:
    """Write ``value`` as a stream.

    Parameters
    ----------
    sink
        stores large data.
    labels
        labels of storages; storages without one are added, as ``prefix`` + number.
    reference
        see :data:`Reference`.
    visit
        called with every object that is pickled; may raise to refuse it.
    earlier
        id → name of values in an earlier stream; they are referred to by name, so that identity is kept.
    script
        the code of the run's script, if this is the run.

    Raises
    ------
    Exception
        whatever pickling an object of the user's raises: ``TypeError``, ``pickle.PicklingError`` and others.
    """
    require(Feature.DATA)
    file = io.BytesIO()
    pickler = _Pickler(file, sink, labels, prefix, reference, visit, earlier, script)
    pickler.dump(value)
    return Stream(file.getvalue(), tuple(pickler.buffers))


class MissingDefinition:
    """Replaces an object whose class or function isn't defined in this session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        stream: Stream,
        source: Source,
        labels: Labels,
        main: dict[str, Any],
        device: str,
        live: Labels | None,
        missing: set[str] | None,
        earlier: Mapping[str, Any],
        script: ScriptCode | None,
    ) -> None:
        super().__init__(io.BytesIO(stream.data), buffers=[source.buffer(location) for location in stream.buffers])
        self._source, self._labels, self._main, self._device = source, labels, main, device
        self._live, self._missing, self._earlier = live, missing, earlier
        self._builder = Builder(main, script)
        self._loaded: dict[str, UntypedStorage] = {}
        self._deferred_reads: list[tuple[Location, UntypedStorage]] = []

    def load(self) -> Any:
        value = super().load()
        # only now: a stream that can't be loaded changes nothing
        for location, storage in self._deferred_reads:
            self._source.read_into(location, storage)
        return value

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "name":
            return self._earlier[rest[0]] if rest[0] in self._earlier else self._definition(rest[0])
        if kind == "main":
            return self._definition(rest[0])
        if kind == "code":
            return self._builder.code(tuple(rest))
        if kind in ("globals", "cell"):
            return self._builder.globals(rest[0]) if kind == "globals" else self._builder.cell(rest[0])
        if kind == "module":
            __import__(rest[0])
            return sys.modules[rest[0]]
        dtype, label, location, nbytes, device = rest
        if label not in self._loaded:
            self._loaded[label] = self._storage(label, location, nbytes, device)
        storage = self._loaded[label]
        return storage if kind == "untyped" else typed_storage(storage, dtype)

    def _storage(self, label: str, location: Location, nbytes: int, device: str) -> UntypedStorage:
        live = self._live.storages.get(label) if self._live is not None else None
        if live is not None and live.nbytes() == nbytes:
            if location[0] != "same":
                self._deferred_reads.append((location, live))
            storage = live
        else:
            storage = self._source.storage(location, nbytes)
            if device == "cuda" and self._device != "cpu":
                storage = as_bytes(storage).to(self._device).untyped_storage()
        self._labels.add(label, storage)
        return storage

    def _definition(self, name: str) -> Any:
        definition: Any = self._main.get(name.split(".")[0], MissingDefinition)
        try:
            for part in name.split(".")[1:]:
                definition = getattr(definition, part)
        except AttributeError:
            definition = MissingDefinition
        if definition is not MissingDefinition:
            return definition
        if self._missing is None:
            raise AttributeError(f"{name} is not defined")
        self._missing.add(name)
        return MissingDefinition


def load(
    stream: Stream,
    source: Source,
    labels: Labels,
    main: dict[str, Any],
    *,
    device: str = "cpu",
    live: Labels | None = None,
    missing: set[str] | None = None,
    earlier: Mapping[str, Any] = MappingProxyType({}),
    script: ScriptCode | None = None,
) -> Any:
    """Read a stream written by :func:`dump`. Only for streams whose writer is trusted.

    Parameters
    ----------
    source
        loads large data.
    labels
        the storages that are loaded are added.
    main
        the namespace in which the notebook's functions and classes are looked up.
    device
        the device for storages that were on a GPU: ``cpu`` or ``cuda:N``.
    live
        storages of this process that are overwritten with the data.
    missing
        the names that ``main`` lacks are added, and their objects become :class:`MissingDefinition`; with
        ``None``, a missing name raises ``AttributeError``.
    earlier
        values of earlier streams by name.
    script
        the code of the run's script, if the stream comes from a run.
    """
    require(Feature.DATA)
    return _Unpickler(stream, source, labels, main, device, live, missing, earlier, script).load()


def main_name(obj: Any, namespaces: Iterable[dict[str, Any]]) -> str | None:
    """Return the dotted name by which one of ``namespaces`` has a function or class of ``__main__``."""
    if getattr(obj, "__module__", None) != "__main__":
        return None
    qualname: str = obj.__qualname__
    root, *attributes = qualname.split(".")
    for namespace in namespaces:
        found: Any = namespace.get(root)
        for attribute in attributes:
            found = vars(found).get(attribute) if isinstance(found, type) else None
        if found is obj:
            return qualname
    return None
