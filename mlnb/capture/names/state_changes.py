"""State changes: which attributes and variables of functions and classes code may change."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlnb.node.data.sent import Path, state_of


@dataclass
class StateChanges:
    """What code may do to the state of functions and classes.

    Attributes
    ----------
    assigned
        attributes of other objects than ``self``, and variables of enclosing functions, that it assigns.
    owners
        names of what it assigns attributes of, or removes them.
    changed
        attributes and variables whose values it may change: it calls a method of theirs, or assigns an item.
    any_attribute
        whether it assigns attributes by ``setattr``.
    """

    assigned: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    any_attribute: bool = False

    def add(self, other: StateChanges) -> None:
        """Add what other code does."""
        self.assigned |= other.assigned
        self.owners |= other.owners
        self.changed |= other.changed
        self.any_attribute |= other.any_attribute


def definitions_changed(definitions: Mapping[str, Any], trees: Iterable[ast.AST]) -> Iterator[str]:
    """The names of those definitions whose state code may change."""
    changes = StateChanges()
    for tree in trees:
        changes.add(_changes(tree))
    others = {id(value): name for name, value in definitions.items()}
    for name, definition in definitions.items():
        if name in changes.owners or any(
            _may_change(definition, path, value, changes) for path, value in state_of(definition, others)
        ):
            yield name


def _may_change(definition: Any, path: Path, value: Any, changes: StateChanges) -> bool:
    kind, name = path[-1]
    if kind == "cache":
        return True
    if kind == "default":
        code = definition.__code__ if len(path) == 1 else None
        name = code.co_varnames[code.co_argcount - len(definition.__defaults__) + name] if code is not None else ""
    is_plain = value is None or isinstance(value, (int, float, complex, str, bytes, tuple, frozenset))
    is_assigned = name in changes.assigned or (kind == "attribute" and changes.any_attribute)
    return (is_assigned and kind in ("attribute", "variable")) or (not is_plain and name in changes.changed)


@functools.lru_cache(maxsize=2048)
def _changes(tree: ast.AST) -> StateChanges:
    found = StateChanges()
    for node in ast.walk(tree):
        if isinstance(node, ast.Nonlocal):
            found.assigned.update(node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                found.assigned.add(node.attr)
                found.owners.update([node.value.id] if isinstance(node.value, ast.Name) else [])
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found.changed.update(_name(node.value))
        elif isinstance(node, ast.AugAssign):
            found.changed.update(_name(node.target))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.changed.update(_name(node.func.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            first = node.args[0] if node.args else None
            found.any_attribute |= not (isinstance(first, ast.Name) and first.id == "self")
            found.owners.update([first.id] if isinstance(first, ast.Name) else [])
    return found


def _name(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return [node.attr]
    return [node.id] if isinstance(node, ast.Name) else []
