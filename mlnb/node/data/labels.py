"""Labels: the names by which session and run know the same storage or object."""

from __future__ import annotations

import contextlib
import copyreg
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.storage import UntypedStorage

from mlnb.node.data.sent import state_of
from mlnb.node.torch_private import storage_id, version

_ATOMS = (str, bytes, int, float, complex, type(None))
"""Types whose objects need no label: nobody can tell two equal ones apart, or should."""


@dataclass
class Labels:
    """Storages and objects by label. Keeps them alive, so that their addresses are not reused.

    An object's label is the stream in which the session sent it, and its place there. So in the session the label is
    that of the object that was sent, and in the run that of the object that was loaded.
    """

    storages: dict[str, UntypedStorage] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    _label_of: dict[int, str] = field(default_factory=dict)
    _object_label: dict[int, tuple[str, type]] = field(default_factory=dict)
    _before: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def add(self, label: str, storage: UntypedStorage) -> None:
        """Give ``storage`` a label."""
        self.storages[label] = storage
        self._label_of[storage_id(storage)] = label

    def of(self, storage: UntypedStorage) -> str | None:
        """Return the label of ``storage``, or ``None``."""
        return self._label_of.get(storage_id(storage))

    def add_objects(self, prefix: str, memo: Mapping[int, Any]) -> None:
        """Give labels to the objects of a stream, by their index in the memo of the pickler or unpickler."""
        for index, value in memo.items():
            if type(value) not in _ATOMS:
                self._add_object(f"{prefix}{index}", value)

    def add_literal(self, name: str, value: Any) -> None:
        """Give labels to the containers in a plain value that the script contains as source."""
        for index, container in enumerate(_containers(value)):
            self._add_object(f"{name}={index}", container)

    def add_state(self, name: str, definition: Any, others: Mapping[int, Any]) -> None:
        """Give labels to containers and the notebook's objects in a definition, by their paths."""
        for path, value in state_of(definition, others):
            self.add_literal(f"{name} {path}", value)
            if type(value).__module__ == "__main__":
                self.add_object(f"{name} {path}", value)

    def copy(self) -> Labels:
        """Another one with the same storages and objects, to which others can be added."""
        tables = (self.storages, self.objects, self._label_of, self._object_label, self._before)
        return Labels(*map(dict, tables))  # type: ignore[arg-type]

    def add_object(self, label: str, value: Any) -> None:
        """Give one object a label, if it has none."""
        if type(value) not in _ATOMS and id(value) not in self._object_label:
            self._add_object(label, value)

    def _add_object(self, label: str, value: Any) -> None:
        self.objects[label] = value
        self._object_label.setdefault(id(value), (label, type(value)))

    def watch(self) -> None:
        """Note what each object contains now; see :meth:`changed`."""
        self._before = {label: _parts(value) for label, value in self.objects.items()}

    def changed(self, returned: Collection[str]) -> list[Any]:
        """The objects that contain something else than at :meth:`watch`, without those with labels in ``returned``."""
        candidates = ((label, before) for label, before in self._before.items() if label not in returned)
        return [self.objects[label] for label, before in candidates if not _same(before, _parts(self.objects[label]))]

    def of_object(self, value: Any) -> str | None:
        """Return the label of an object, or ``None``."""
        found = self._object_label.get(id(value))
        return None if found is None else found[0]

    def has_other_class(self, value: Any) -> bool:
        """Whether an object that has a label was of another class when it got it."""
        return self._object_label[id(value)][1] is not type(value)


def _parts(value: Any) -> tuple[Any, ...]:
    """What an object refers to itself; for a tensor, how often it was changed."""
    if isinstance(value, torch.Tensor):
        return () if torch.nn.parameter.is_lazy(value) else (version(value),)
    parts: list[Any] = []
    if isinstance(value, dict):
        parts += [part for pair in dict.items(value) for part in pair]
    elif isinstance(value, (list, set, deque)):
        kind = next(kind for kind in (list, set, deque) if isinstance(value, kind))
        parts += kind.__iter__(value)  # type: ignore[arg-type]
    elif isinstance(value, bytearray):
        parts.append(bytes(value))
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        attributes = None
    if isinstance(attributes, dict) and attributes is not value and not isinstance(value, type):
        parts += [part for pair in attributes.items() for part in pair]
    for name in () if isinstance(value, type) else copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        with contextlib.suppress(AttributeError):
            parts += [name, object.__getattribute__(value, name)]
    return tuple(parts)


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Whether two objects contain the same objects, or equal numbers and strings."""
    return len(before) == len(now) and all(
        first is second or (type(first) is type(second) and type(first) in _ATOMS and first == second)
        for first, second in zip(before, now, strict=True)
    )


def _containers(value: Any) -> Iterator[Any]:
    """The mutable containers in a plain value, in an order that depends on nothing but the value."""
    if isinstance(value, (list, dict, set, bytearray)):
        yield value
    if isinstance(value, dict):
        for part in value.values():
            yield from _containers(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _containers(part)
