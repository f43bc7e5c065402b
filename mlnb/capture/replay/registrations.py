"""Registrations: an object that the script makes as the session did gets again what the session registered on it.

An example is an operator of ``@torch.library.custom_op`` with ``@operator.register_fake`` after it.
"""

from __future__ import annotations

import ast
import builtins
import copy
import gc
import types
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from mlnb.capture.names.analysis import global_reads
from mlnb.capture.replay.statements import Effect, is_setting
from mlnb.capture.slice import Slice
from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.modules import LocalModules
from mlnb.capture.source.nodes import Cell, DefNode, first_line


def registrations(
    slice_: Slice, history: SourceHistory, modules: LocalModules, cells: Collection[Cell]
) -> Iterator[Effect]:
    """The statements at the top level of cells that register something on what the script makes.

    Whatever else was done with that isn't repeated; the plan says what.
    """
    made = _Made(slice_, history, modules)
    for cell in cells if made.names else ():
        for node in cell.tree.body:
            effects = list(made.effects(cell, node))
            if effects and all(effects):
                yield Effect(cell, node, frozenset(), _target(node))
            elif effects:
                made.note_lost(cell, node)
    made.add_notes()


class _Made:
    """The objects that the script makes as the session has made them.

    Attributes
    ----------
    names
        the session's names for them, each with the position of the statement that made it.
    """

    def __init__(self, slice_: Slice, history: SourceHistory, modules: LocalModules) -> None:
        self._modules = modules
        self._slice, self._namespace = slice_, slice_.session.namespace
        defined = {
            name: source.origin.position
            for name, source in slice_.definitions.items()
            if slice_.session.has(name) and not isinstance(self._namespace[name], (types.FunctionType, type))
        }
        anew = {name: found.position for name in slice_.made_anew.values if (found := history.binding(name))}
        self.names: dict[str, tuple[int, int]] = {**defined, **anew}
        self._anew = frozenset(anew)
        self._lost: dict[str, list[str]] = {}

    def effects(self, cell: Cell, node: ast.stmt) -> Iterator[bool]:
        """For each part of a statement that does something with one of the objects, whether it can be repeated."""
        if isinstance(node, (ast.If, ast.For, ast.While, ast.With, ast.Try)):
            for inner in ast.iter_child_nodes(node):
                bodies = inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
                for part in bodies:
                    if isinstance(part, ast.stmt):
                        yield from self.effects(cell, part) if self._uses(cell, part) else (False,)
        elif isinstance(node, DefNode):
            if any(self._is_made(cell, _object(decorator), node) for decorator in node.decorator_list):
                yield True
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)):
            targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [node.target]
            holders = (target for target in targets if isinstance(target, (ast.Attribute, ast.Subscript)))
            held = (root_name(holder) for holder in holders)
            if any(name in self._anew and self._is_made(cell, name, node) for name in held):
                yield len(targets) == 1
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from self._effects_of_call(cell, node.value)

    def _uses(self, cell: Cell, node: ast.stmt) -> bool:
        return any(self._is_made(cell, name.id, node) for name in ast.walk(node) if isinstance(name, ast.Name))

    def _effects_of_call(self, cell: Cell, call: ast.Call) -> Iterator[bool]:
        verb = str(getattr(call.func, "attr", getattr(call.func, "id", "")))
        repeats = is_setting(verb) or verb.startswith(_ATTACHING)
        if self._is_made(cell, _object(call.func), call):
            yield repeats
            return
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        given = [name for argument in arguments for name in _named(argument) if self._is_made(cell, name, call)]
        if not given or (isinstance(call.func, ast.Name) and call.func.id in vars(builtins) and verb != "setattr"):
            return
        holders = self._sent_with(self._namespace.get(root_name(call.func) or ""))
        objects = [self._namespace[name] for name in given]
        if not any(_reaches(holder, objects) for holder in holders):  # else what is sent has the object already
            yield repeats

    def _sent_with(self, receiver: Any) -> list[Any]:
        """What a call on ``receiver``, or of it, may have put an object into, and what is sent as data."""
        if isinstance(receiver, types.ModuleType):
            return list(vars(receiver).values()) if self._modules.is_local(receiver.__name__.split(".")[0]) else []
        if isinstance(receiver, types.FunctionType):
            read = global_reads(receiver.__code__) if receiver.__module__ == "__main__" else ()
            return [self._namespace.get(name) for name in read]
        return [receiver]

    def _is_made(self, cell: Cell, name: str | None, node: ast.stmt | ast.expr) -> bool:
        """Whether ``name`` is one of the objects, and was when the statement ran."""
        return name in self.names and self.names[name] < (cell.order, node.lineno)

    def note_lost(self, cell: Cell, node: ast.stmt) -> None:
        """A statement did something with an object that can't be sent, and isn't repeated."""
        for name in sorted({name.id for name in ast.walk(node) if isinstance(name, ast.Name)} & self._anew):
            text = " ".join(ast.unparse(node).split())
            self._lost.setdefault(name, []).append(f"`{text if len(text) <= 40 else text[:37] + '...'}` ({cell.label})")

    def add_notes(self) -> None:
        """Tell the user what isn't repeated."""
        for name, statements in self._lost.items():
            more = f" and {len(statements) - 2} more" if len(statements) > 2 else ""
            self._slice.note(f"{name}: what the session did with it is not repeated: {', '.join(statements[:2])}{more}")


_ATTACHING = (
    *("attach", "bind", "connect", "create_aggregate", "create_collation", "create_function", "hook", "include"),
    *("link", "mount", "observe", "on_", "subscribe", "wire"),
)
"""With what the names of functions begin that tie one object to another, beside those that set something."""

_REACHED = 20_000
"""Objects that are looked at for whether one holds another."""


def _reaches(value: Any, others: Collection[Any]) -> bool:
    """Whether an object of the session holds one of ``others``, at any depth."""
    if value is None or isinstance(value, (types.ModuleType, type, types.FunctionType)):
        return False
    wanted, seen, queue = set(map(id, others)), {id(value)}, deque([value])
    while queue and len(seen) < _REACHED:
        for part in gc.get_referents(queue.popleft()):
            if id(part) in wanted:
                return True
            if id(part) not in seen and not isinstance(part, (types.ModuleType, type)):
                seen.add(id(part))
                if not (isinstance(part, dict) and "__builtins__" in part):
                    queue.append(part)
    return False


def _named(node: ast.expr) -> Iterator[str]:
    """The names that an argument consists of: itself, or the items of a list or the like."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        for item in node.elts:
            yield from _named(item)
    elif isinstance(node, ast.Dict):
        for item in node.values:
            yield from _named(item)
    elif isinstance(node, ast.Starred):
        yield from _named(node.value)


def _target(node: ast.stmt) -> ast.Attribute | ast.Subscript | None:
    """What a statement assigns to an object."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return targets[0] if isinstance(targets[0], (ast.Attribute, ast.Subscript)) else None


def root_name(node: ast.AST | None) -> str | None:
    """The name that attributes, items and calls start from."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _object(node: ast.expr) -> str | None:
    """``name`` of ``name.method`` and ``name.method(…)``."""
    function = node.func if isinstance(node, ast.Call) else node
    return root_name(function) if isinstance(function, ast.Attribute) else None


def from_first_decorator(node: DefNode) -> DefNode:
    """A definition whose source begins with its decorators."""
    moved = copy.copy(node)
    moved.lineno, moved.col_offset = first_line(node), 0
    return moved
