"""Replaces attributes of classes and modules, and restores them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlnb.node.torch_private import compile_as


class Patches:
    """Replaced attributes, with what restores them."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def set(self, owner: type | ModuleType, name: str, value: object) -> None:
        """Replace an attribute that ``owner`` itself defines."""
        self._undo.append(functools.partial(setattr, owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def wrap(self, owner: type | ModuleType, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Replace a method by ``wrapper(method)``, which gets the method's name and docstring."""
        original = vars(owner)[name]
        wrapped = functools.wraps(original)(wrapper(original))
        if isinstance(owner, ModuleType) and owner.__name__.startswith("torch"):
            compile_as(original, wrapped)
        self.set(owner, name, wrapped)

    def override(self, owner: type, name: str, value: object) -> None:
        """Replace an attribute that ``owner`` itself may only inherit."""
        if name in vars(owner):
            self.set(owner, name, value)
        else:
            setattr(owner, name, value)
            self._undo.append(functools.partial(delattr, owner, name))

    def on_undo(self, call: Callable[[], object]) -> None:
        """Call ``call`` in :meth:`undo`."""
        self._undo.append(call)

    def undo(self) -> None:
        """Restore everything, the last first. Whoever wrapped the same attribute later must restore it before."""
        while self._undo:
            self._undo.pop()()
