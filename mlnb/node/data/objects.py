"""Object streams: pickles of the session's values that keep identity, with large data stored outside of the pickle.

So that large data can be stored by content, these are outside:

* tensors' storages, each once, however many tensors, parameters or optimizers share it;
* buffers of arrays and frames (pickle protocol 5, PEP 574).

Functions and classes of the notebook (``__main__``) that the other process defines are referred to by name; their
source is sent separately. What can't be referred to, as a function made by another, is sent by value
(:mod:`mlnb.node.data.kinds.by_value`). Storages have a *label* that both sides know. So results can be written into the
storages that were sent, and all tensors of the session that share them are updated.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch.storage import TypedStorage, UntypedStorage

from mlnb.node.data.kinds import arrays, mapped_files
from mlnb.node.data.kinds.arrays import memory_of
from mlnb.node.data.kinds.by_value import Builder, Reducer
from mlnb.node.data.kinds.code import CodeNotFound, ScriptCode
from mlnb.node.data.kinds.torch_objects import _generator, _set_scheduler
from mlnb.node.data.labels import Labels
from mlnb.node.data.pickling import building, deep, reduction
from mlnb.node.data.pickling.building import MissingDefinition, Rebuilder
from mlnb.node.data.pickling.bulk import INLINE, SHARED, Bulk, Sink, Source
from mlnb.node.data.storages import Location, as_bytes
from mlnb.node.torch_private import (
    REBUILD_UNTYPED,
    Feature,
    rebuild_untyped,
    require,
    typed_storage,
    untyped_storage,
)

__all__ = ["INLINE", "Labels", "MissingDefinition", "Sink", "Source", "_generator", "_set_scheduler"]
# the last two: streams of older versions refer to them


@dataclass(frozen=True)
class Stream:
    """A stream: the pickle, the locations of its out-of-band buffers, and the labels of the session's objects in it."""

    data: bytes
    buffers: tuple[Location, ...]
    labels: frozenset[str] = frozenset()


Reference = Callable[[Any], "str | None"]
"""Returns the dotted ``__main__`` name by which to refer to a function or class; ``None``: pickle it as usual."""


def _no_reference(_: Any) -> str | None:
    return None


class _Writing:
    """What both picklers have in common."""

    def __init__(
        self,
        file: io.BytesIO,
        bulk: Bulk,
        reference: Reference,
        visit: Callable[[Any], None] | None,
        earlier: Mapping[int, str],
        reducer: Reducer,
        writer: building.Writer | None,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._buffer)  # type: ignore[call-arg]
        self._bulk, self._reference, self._reducer, self._writer = bulk, reference, reducer, writer
        self._visit, self._earlier = visit, earlier
        self.buffers: list[Location] = []

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < INLINE:
            return True  # inside the pickle
        self.buffers.append(self._bulk.buffer(view))
        return False

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if self._visit is not None:
            self._visit(obj)
        if self._earlier and id(obj) in self._earlier:
            return ("name", self._earlier[id(obj)])
        if self._writer is not None and (written := self._writer.persistent_id(obj)) is not None:
            return written
        if isinstance(obj, (types.FunctionType, type, functools._lru_cache_wrapper)):
            name = self._reference(obj)
            return None if name is None else ("main", name)
        if isinstance(obj, TypedStorage):
            return ("typed", obj.dtype, *self._bulk.storage(untyped_storage(obj)))
        if isinstance(obj, UntypedStorage):
            return ("untyped", None, *self._bulk.storage(obj))
        if isinstance(obj, types.ModuleType):
            return ("module", obj.__name__)
        if type(obj) is arrays.MemoryOf:
            return ("array", self._bulk.array(obj.array))
        part = self._reducer.persistent_id(obj)
        if part is not None and part[0] == "cell" and self._writer is not None:
            return (*part, self._writer.label(obj))
        return part

    def reducer_override(self, obj: Any) -> Any:
        reduced = reduction.reduce(obj)
        if reduced is NotImplemented:
            reduced = self._reducer.reduce(obj)
        return reduced if self._writer is None else self._writer.reduce(obj, reduced)


class _Pickler(_Writing, pickle.Pickler):
    def objects(self) -> dict[int, Any]:
        """The objects that were written, by their place in the stream."""
        return dict(self.memo.copy().values())


class _DeepPickler(_Writing, deep.DeepPickler):
    def objects(self) -> dict[int, Any]:
        return dict(self.memo.values())


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
    merging: bool = False,
) -> Stream:
    """Write ``value`` as a stream.

    Parameters
    ----------
    sink
        stores large data.
    labels
        labels of storages and objects; those without one are added, as ``prefix`` + number.
    reference
        see :data:`Reference`.
    visit
        called with every object that is pickled; may raise to refuse it.
    earlier
        id → name of values in an earlier stream; they are referred to by name, so that identity is kept.
    script
        the code of the run's script, if this is the run.
    merging
        whether the session puts the values into its own objects: see :mod:`mlnb.node.data.pickling.building`.

    Raises
    ------
    Exception
        whatever pickling an object of the user's raises: ``TypeError``, ``pickle.PicklingError`` and others.
    """
    require(Feature.DATA)
    bulk = Bulk(sink, labels, prefix)
    kinds: list[type[_Pickler | _DeepPickler]] = [_Pickler, _DeepPickler]
    for kind in kinds:
        file, reducer = io.BytesIO(), Reducer(script)
        writer = building.Writer(labels) if merging else None
        pickler = kind(file, bulk, reference, visit, earlier, reducer, writer)
        try:
            pickler.dump(value)
        except RecursionError:
            if kind is _DeepPickler:
                raise
            continue
        if not merging:
            labels.add_objects(prefix, pickler.objects())
            labels.add_objects(f"{prefix}cell", reducer.cells())
        data = bulk.table().before(file.getvalue())
        return Stream(data, tuple(pickler.buffers), frozenset(writer.written if writer else ()))
    raise AssertionError


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
        rebuilder: Rebuilder,
    ) -> None:
        self._table, data = arrays.split(stream.data)
        super().__init__(io.BytesIO(data), buffers=[source.buffer(location) for location in stream.buffers])
        self._source, self._labels, self._main, self._device = source, labels, main, device
        self._live, self._missing, self._earlier = live, missing, earlier
        self._builder, self._rebuilder = Builder(main, script), rebuilder
        self._loaded: dict[str, UntypedStorage] = {}
        self._deferred_reads: list[tuple[Location, UntypedStorage]] = []

    def load(self) -> Any:
        value = super().load()
        # only now: a stream that can't be loaded changes nothing
        for location, storage in self._deferred_reads:
            self._source.read_into(location, storage)
        return value

    def cells(self) -> dict[int, types.CellType]:
        """The variables of enclosing functions that were loaded, by number."""
        return self._builder.cells()

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "name":
            return self._earlier[rest[0]] if rest[0] in self._earlier else self._definition(rest[0])
        if kind == "main":
            return self._definition(rest[0])
        if kind == "build":
            return self._rebuilder.create if rest[0] == "create" else self._rebuilder.fill
        if kind == "box":
            return self._rebuilder.box(rest[0], building.BOXES[rest[1]], *rest[2:])
        if kind == "code":
            return self._found(str(rest[1]), lambda: self._builder.code(tuple(rest)))
        if kind == "globals":
            return self._found(rest[0], lambda: self._builder.globals(rest[0]))
        if kind == "cell":
            return self._builder.cell(rest[0], self._rebuilder.live_object(*rest[1:]))
        if kind == "module":
            return self._found(rest[0], lambda: importlib.import_module(rest[0]))
        if kind == "array":
            region, offset, strides = self._table.arrays[rest[0]]
            where = self._table.regions[region]
            if isinstance(where, bytes):
                return bytearray(where), strides, offset
            storage = self._loaded_storage(*where)
            memory, begin = mapped_files.opened(storage) or (memory_of(storage), 0)
            return memory, strides, begin + offset
        dtype, *reference = rest
        storage = self._loaded_storage(*reference)
        return storage if kind == "untyped" else typed_storage(storage, dtype)

    def _loaded_storage(self, label: str, location: Location, nbytes: int, device: str) -> UntypedStorage:
        if label not in self._loaded:
            self._loaded[label] = self._storage(label, location, nbytes, device)
        return self._loaded[label]

    def _storage(self, label: str, location: Location, nbytes: int, device: str) -> UntypedStorage:
        live = self._live.storages.get(label) if self._live is not None else None
        span = mapped_files.span_at(self._source, location)
        if live is not None and live.nbytes() == nbytes:
            if span is not None:
                mapped_files.look_again(span)
            elif location[0] != "same":
                self._deferred_reads.append((location, live))
            storage = live
        elif label in self._table.inside:
            region, offset, size = self._table.inside[label]
            storage = arrays.part_of(self._loaded_storage(*self._table.storage(region)), offset, size)
        elif span is not None:
            storage = mapped_files.map_again(span)
        else:
            storage = self._source.storage(location, nbytes)
            if device == SHARED:
                storage.share_memory_()
            elif device == "cuda" and self._device != "cpu":
                storage = as_bytes(storage).to(self._device).untyped_storage()
        self._labels.add(label, storage)
        return storage

    def find_class(self, module: str, name: str) -> Any:
        """See ``pickle.Unpickler``."""
        if (module, name) == REBUILD_UNTYPED:
            return rebuild_untyped
        return self._found(f"{module}.{name}", lambda: super(_Unpickler, self).find_class(module, name))

    def _found(self, name: str, find: Callable[[], Any]) -> Any:
        """What another module defines; where that is missing, the same as for a missing definition of the notebook."""
        if self._missing is None:
            return find()
        try:
            return find()
        except (ImportError, AttributeError, CodeNotFound):
            self._missing.add(name)
            return MissingDefinition

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
    prefix: str | None = None,
    rebuilder: Rebuilder | None = None,
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
    prefix
        that with which the stream was written, if its objects shall get the labels that they have in the session.
    rebuilder
        makes the objects of a stream that was written with ``merging``.
    """
    require(Feature.DATA)
    reader = _Unpickler(stream, source, labels, main, device, live, missing, earlier, script, rebuilder or Rebuilder())
    value = reader.load()
    if prefix is not None:
        labels.add_objects(prefix, reader.memo.copy())
        labels.add_objects(f"{prefix}cell", reader.cells())
    return value


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
