"""Deep: a pickler for structures of any depth, such as long linked lists, which recursion can't follow.

It writes the same pickles as ``pickle.Pickler``, more slowly. Unpickling needs no recursion.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar

_BATCH = 1000

Steps = Iterator[tuple[Any, bool]]
"""What to write next, and whether it may be written as a persistent id."""


class DeepPickler(pickle._Pickler):
    """Pickles without recursion. ``persistent_id`` and ``reducer_override`` are as of ``pickle.Pickler``."""

    # of the base class, which is documented in pickle.py only
    memo: dict[int, tuple[int, Any]]
    framer: Any
    proto: int
    write: Callable[[bytes], Any]
    get: Callable[[int], bytes]
    memoize: Callable[[Any], None]
    save_global: Callable[..., None]
    dispatch: ClassVar[dict[type, Callable[[Any, Any], None]]]

    def reducer_override(self, obj: Any) -> Any:  # noqa: ARG002 - for subclasses
        """See ``pickle.Pickler``; not called for built-in types."""
        return NotImplemented

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write an object and all that it refers to."""
        stack: list[Steps] = []
        step = self._write(obj, save_persistent_id)
        if step is None:
            return
        stack.append(step)
        while stack:
            for part, may_refer in stack[-1]:
                step = self._write(part, may_refer)
                if step is not None:
                    stack.append(step)
                    break
            else:
                stack.pop()

    def _write(self, obj: Any, may_refer: bool) -> Steps | None:
        """Write an object without parts; return the steps to write any other."""
        self.framer.commit_frame()
        reference = self.persistent_id(obj) if may_refer else None
        if reference is not None:
            return self._write_reference(reference)
        written = self.memo.get(id(obj))
        if written is not None:
            self.write(self.get(written[0]))
            return None
        kind = type(obj)
        if kind in _ATOMS:
            self.dispatch[kind](self, obj)
            return None
        container = _CONTAINERS.get(kind)
        return self._write_reduced(obj) if container is None else container(self, obj)

    def _write_reference(self, reference: Any) -> Steps:
        yield reference, False
        self.write(pickle.BINPERSID)

    def _write_reduced(self, obj: Any) -> Steps:
        reduced = self.reducer_override(obj)
        if reduced is NotImplemented:
            kind = type(obj)
            if kind in self.dispatch:
                self.dispatch[kind](self, obj)  # functions, classes and buffers: these have no parts
                return
            reducer = copyreg.dispatch_table.get(kind)
            if reducer is None and issubclass(kind, type):
                self.save_global(obj)
                return
            reduced = reducer(obj) if reducer is not None else obj.__reduce_ex__(self.proto)
        if isinstance(reduced, str):
            self.save_global(obj, reduced)
            return
        function, arguments, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
        yield from self._write_creation(function, arguments)
        if id(obj) in self.memo:  # it is a part of its own arguments
            self.write(pickle.POP + self.get(self.memo[id(obj)][0]))
        else:
            self.memoize(obj)
        if items is not None:
            yield from self._write_batches(items, pickle.APPENDS)
        if pairs is not None:
            yield from self._write_batches(pairs, pickle.SETITEMS)
        if state is None:
            return
        if setter is None:
            yield state, True
            self.write(pickle.BUILD)
            return
        yield setter, True
        yield obj, True
        yield state, True
        self.write(pickle.TUPLE2 + pickle.REDUCE + pickle.POP)

    def _write_creation(self, function: Any, arguments: tuple[Any, ...]) -> Steps:
        name = getattr(function, "__name__", "")
        if name == "__newobj_ex__":
            for part in arguments:
                yield part, True
            self.write(pickle.NEWOBJ_EX)
        elif name == "__newobj__":
            yield arguments[0], True
            yield arguments[1:], True
            self.write(pickle.NEWOBJ)
        else:
            yield function, True
            yield arguments, True
            self.write(pickle.REDUCE)

    def _write_batches(self, values: Iterable[Any], opcode: bytes) -> Steps:
        """Write items, or keys and values, in batches; each ends with ``opcode``."""
        remaining = iter(values)
        while batch := list(islice(remaining, _BATCH)):
            self.write(pickle.MARK)
            for value in batch:
                for part in value if opcode == pickle.SETITEMS else (value,):
                    yield part, True
            self.write(opcode)

    def _write_list(self, value: list[Any]) -> Steps:
        self.write(pickle.EMPTY_LIST)
        self.memoize(value)
        yield from self._write_batches(value, pickle.APPENDS)

    def _write_dict(self, value: dict[Any, Any]) -> Steps:
        self.write(pickle.EMPTY_DICT)
        self.memoize(value)
        yield from self._write_batches(value.items(), pickle.SETITEMS)

    def _write_set(self, value: set[Any]) -> Steps:
        self.write(pickle.EMPTY_SET)
        self.memoize(value)
        yield from self._write_batches(value, pickle.ADDITEMS)

    def _write_tuple(self, value: tuple[Any, ...]) -> Steps:
        if not value:
            self.write(pickle.EMPTY_TUPLE)
            return
        yield from self._write_closed(value, pickle.TUPLE)

    def _write_frozenset(self, value: frozenset[Any]) -> Steps:
        yield from self._write_closed(value, pickle.FROZENSET)

    def _write_closed(self, value: Any, opcode: bytes) -> Steps:
        """Write what has to be complete when it is created."""
        self.write(pickle.MARK)
        for part in value:
            yield part, True
        if id(value) in self.memo:  # it is a part of its own parts
            self.write(pickle.POP_MARK + self.get(self.memo[id(value)][0]))
        else:
            self.write(opcode)
            self.memoize(value)


_CONTAINERS: dict[type, Any] = {
    list: DeepPickler._write_list,
    dict: DeepPickler._write_dict,
    set: DeepPickler._write_set,
    tuple: DeepPickler._write_tuple,
    frozenset: DeepPickler._write_frozenset,
}
_ATOMS = frozenset({type(None), bool, int, float, bytes, bytearray, str})
