"""Object streams: values out of one process and into another, identity kept, big data beside the stream.

A stream is a pickle whose bulky parts stand outside of it, so that they can be stored by content:

* tensors' storages, each once, however many tensors, parameters or optimizers share it;
* buffers of arrays and frames (pickle protocol 5, PEP 574).

What was defined in the notebook (``__main__``) is referred to by name and travels as source. Storages carry a
*label* that both sides know, so that what comes back can be written into the storages it came from: every
tensor that shares them sees it.
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

from mlnb.node.data.storages import Location, as_bytes
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
"""Bytes up to which data stays inside the stream."""


class Sink(Protocol):
    """Takes the bulky parts while a stream is written and says where they will be."""

    def storage(self, storage: UntypedStorage, label: str | None) -> Location:
        """Place a storage (on any device)."""

    def buffer(self, view: memoryview) -> Location:
        """Place a contiguous buffer."""


class Source(Protocol):
    """Finds the bulky parts while a stream is read."""

    def storage(self, location: Location, nbytes: int) -> UntypedStorage:
        """The storage at ``location``, on the CPU; writing to it changes no file."""

    def buffer(self, location: Location) -> Any:
        """The writable buffer at ``location``; writing to it changes no file."""

    def read_into(self, location: Location, storage: UntypedStorage) -> None:
        """Fill ``storage`` with what is at ``location``."""


@dataclass
class Labels:
    """Which storage goes by which label. Holds the storages, so that their addresses stay theirs."""

    storages: dict[str, UntypedStorage] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)

    def add(self, label: str, storage: UntypedStorage) -> None:
        """Call ``storage`` ``label`` from now on."""
        self.storages[label] = storage
        self._names[storage_id(storage)] = label

    def of(self, storage: UntypedStorage) -> str | None:
        """The label of ``storage``, if it has one."""
        return self._names.get(storage_id(storage))


@dataclass(frozen=True)
class Stream:
    """A written stream: the pickle and where its out-of-band buffers are."""

    data: bytes
    buffers: tuple[Location, ...]


Reference = Callable[[Any], "str | None"]
"""Says by which ``__main__`` name a function or class is known over there (``None``: it is no such thing)."""


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
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._buffer)
        self._sink, self._labels, self._prefix, self._reference = sink, labels, prefix, reference
        self._visit, self._earlier = visit, earlier
        self._seen: dict[int, tuple[Any, ...]] = {}
        self._kept: list[UntypedStorage] = []
        self.buffers: list[Location] = []

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < INLINE:
            return True  # in band
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
        return None

    def _storage(self, storage: UntypedStorage) -> tuple[Any, ...]:
        key = storage_id(storage)
        if key not in self._seen:
            label = self._labels.of(storage)
            location = self._sink.storage(storage, label)
            if label is None:
                label = f"{self._prefix}{len(self._seen)}"
                self._labels.add(label, storage)
            self._seen[key] = (label, location, storage.nbytes(), storage.device.type)
            self._kept.append(storage)
        return self._seen[key]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Generator):
            return _generator, (obj.device.type, obj.get_state())
        if isinstance(obj, DataLoader) and has_persistent_iterator(obj):
            made = obj.__reduce_ex__(5)  # its persistent workers are processes of here: new ones start there
            return (*made[:2], without_iterator(made[2]), *made[3:]) if isinstance(made[2], dict) else made
        if isinstance(obj, LRScheduler):
            made = (*obj.__reduce_ex__(5), None, None)[:5]
            return (*made, _set_scheduler) if isinstance(made[2], dict) else NotImplemented
        return NotImplemented


def _set_scheduler(scheduler: Any, state: dict[str, Any]) -> None:
    """Give a scheduler its state; its optimizer says again when it has stepped, lest the scheduler warn."""
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
) -> Stream:
    """Write ``value`` as a stream.

    Parameters
    ----------
    sink
        takes storages and buffers.
    labels
        storages already known by a label; new ones are added as ``prefix`` + number.
    reference
        see :data:`Reference`.
    visit
        called with every object on the way; may raise to refuse it.
    earlier
        id → name of values that an earlier stream holds: they are referred to, so that identity is kept.

    Raises
    ------
    Exception
        whatever pickling an object of the user's raises: ``TypeError``, ``pickle.PicklingError`` and others.
    """
    require(Feature.DATA)
    file = io.BytesIO()
    pickler = _Pickler(file, sink, labels, prefix, reference, visit, earlier)
    pickler.dump(value)
    return Stream(file.getvalue(), tuple(pickler.buffers))


class MissingDefinition:
    """Stands for an object whose class or function isn't defined in this session."""

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
    ) -> None:
        super().__init__(io.BytesIO(stream.data), buffers=[source.buffer(location) for location in stream.buffers])
        self._source, self._labels, self._main, self._device = source, labels, main, device
        self._live, self._missing, self._earlier = live, missing, earlier
        self._loaded: dict[str, UntypedStorage] = {}
        self._later: list[tuple[Location, UntypedStorage]] = []

    def load(self) -> Any:
        value = super().load()
        for location, storage in self._later:  # only now: a stream that doesn't load changes nothing
            self._source.read_into(location, storage)
        return value

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "name":
            return self._earlier[rest[0]]
        if kind == "main":
            return self._defined(rest[0])
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
                self._later.append((location, live))
            storage = live
        else:
            storage = self._source.storage(location, nbytes)
            if device == "cuda" and self._device != "cpu":
                storage = as_bytes(storage).to(self._device).untyped_storage()
        self._labels.add(label, storage)
        return storage

    def _defined(self, name: str) -> Any:
        found: Any = self._main.get(name.split(".")[0], MissingDefinition)
        try:
            for part in name.split(".")[1:]:
                found = getattr(found, part)
        except AttributeError:
            found = MissingDefinition
        if found is not MissingDefinition:
            return found
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
) -> Any:
    """Read a stream written by :func:`dump`. Only for streams whose writer is trusted.

    Parameters
    ----------
    source
        finds storages and buffers.
    labels
        filled with the storages that were loaded.
    main
        the namespace in which what the notebook defines is found.
    device
        where storages go that were on a GPU: ``cpu`` or ``cuda:N``.
    live
        storages of this process that take the data in place.
    missing
        filled with the names that ``main`` lacks (their objects become :class:`MissingDefinition`);
        ``None`` makes a missing name an ``AttributeError``.
    earlier
        values of earlier streams by name.
    """
    require(Feature.DATA)
    return _Unpickler(stream, source, labels, main, device, live, missing, earlier).load()


def main_name(obj: Any, namespaces: Iterable[dict[str, Any]]) -> str | None:
    """The dotted name by which a function or class of ``__main__`` is found in one of ``namespaces``."""
    if getattr(obj, "__module__", None) != "__main__":
        return None
    qualname: str = obj.__qualname__
    for namespace in namespaces:
        if qualname.split(".")[0] in namespace:
            return qualname
    return None
