"""Paths of objects: the names by which two attempts of a run, or two runs of one code, know the same object."""

from __future__ import annotations

import contextlib
import copyreg
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mlnb.node.data.labels import Labels
from mlnb.node.data.sent import PLAIN

_WITHOUT_PATHS = (*PLAIN, torch.UntypedStorage, types.ModuleType, types.BuiltinFunctionType, type)
"""Kinds of objects that are found by name, or that nobody can tell from equal ones."""

_MANY = 10_000
"""Number of parts above which those of a container get no paths: naming them would take longer than an epoch."""


def label_by_path(labels: Labels, roots: Iterable[tuple[str, Any]], without: Iterable[int] = ()) -> None:
    """Give labels to objects, and storages of tensors, that can be reached by attributes, keys, indices and closures.

    Parameters
    ----------
    roots
        variables: names and values.
    without
        ids of objects that get no labels, nor what is in them.
    """
    visited = set(without)
    queue = deque(roots)
    while queue:
        path, value = queue.popleft()
        kind = type(value)  # not isinstance(), which asks the object
        if issubclass(kind, _WITHOUT_PATHS) or id(value) in visited or _is_found_by_name(value):
            continue
        visited.add(id(value))
        labels.add_object(path, value)
        if issubclass(kind, torch.Tensor):
            if value.layout is torch.strided and not torch.nn.parameter.is_lazy(value) and not value.is_meta:
                labels.add(path, value.untyped_storage())
        else:
            queue.extend((path + step, part) for step, part in _parts(value))


def _is_found_by_name(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and "<locals>" not in value.__qualname__


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.FunctionType):
        yield from (
            (f"<{name}>", cell) for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        )
    elif isinstance(value, types.CellType):
        with contextlib.suppress(ValueError):  # it isn't assigned yet
            yield "", value.cell_contents
    elif issubclass(type(value), dict):
        if len(value) <= _MANY:
            yield from ((f"[{key!r}]", part) for key, part in list(dict.items(value)) if type(key) in PLAIN)
    elif issubclass(type(value), (list, tuple, deque)) and len(value) <= _MANY:
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        attributes = None
    if isinstance(attributes, dict) and attributes is not value:
        yield from ((f".{name}", part) for name, part in list(attributes.items()))
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        try:
            yield f".{name}", object.__getattribute__(value, name)
        except AttributeError:
            continue
