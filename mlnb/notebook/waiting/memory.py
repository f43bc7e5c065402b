"""The memory of tensors and arrays: who reads one of two that share some reads the other, too."""

from __future__ import annotations

import bisect
import contextlib
import sys
from collections.abc import Collection, Iterator
from typing import Any


class Memory:
    """Spans of memory in which objects have their data."""

    def __init__(self) -> None:
        self._spans: set[tuple[int, int]] = set()

    def add(self, value: Any) -> None:
        """Add the memory of ``value``, if it is a tensor or an array."""
        with contextlib.suppress(Exception):  # a tensor without storage, or of a class of its own
            for start, size in _spans(value):
                if start and size:
                    self._spans.add((start, start + size))

    def overlaps(self, other: Memory) -> bool:
        """Whether they have memory in common."""
        spans = sorted(self._spans)
        ends: list[int] = []
        for _, end in spans:
            ends.append(max(end, ends[-1] if ends else 0))
        for start, end in other._spans:
            index = bisect.bisect_left(spans, (end, 0)) - 1
            if index >= 0 and ends[index] > start:
                return True
        return False


def _spans(value: Any) -> Iterator[tuple[int, int]]:
    kind, torch = type(value), sys.modules.get("torch")
    if is_array(kind):
        yield value.__array_interface__["data"][0], value.nbytes  # of a view, its base counts, too
    elif torch is not None and issubclass(kind, torch.Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()


def is_array(kind: type) -> bool:
    """Whether ``kind`` is numpy's array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray)


def hidden_parts(value: Any) -> Collection[Any]:
    """What ``value`` refers to without the garbage collector knowing: an array's base, a jit module's tensors."""
    kind, torch = type(value), sys.modules.get("torch")
    if is_array(kind):
        return [value.base, *(value.flat if value.dtype.hasobject else ())]
    if torch is not None and issubclass(kind, torch.jit.ScriptModule):
        return [*value.parameters(), *value.buffers()]
    return ()
