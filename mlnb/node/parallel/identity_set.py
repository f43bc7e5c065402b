"""A set of objects that are told apart by identity, and that the set does not keep alive."""

from __future__ import annotations

import weakref
from typing import Any


class IdentitySet:
    """Objects by identity: for those that have no hash, or whose ``==`` compares values, as tensors' does."""

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[Any]] = {}

    def __contains__(self, value: object) -> bool:
        reference = self._references.get(id(value))
        return reference is not None and reference() is value

    def add(self, value: Any) -> bool:
        """Add ``value``; return whether it was there.

        Raises
        ------
        TypeError
            if nothing can refer to it weakly.
        """
        if value in self:
            return True
        references, key = self._references, id(value)
        references[key] = weakref.ref(value, lambda _: references.pop(key, None))
        return False

    def clear(self) -> None:
        """Forget all."""
        self._references = {}
