"""Registrations: an object that the script makes as the session did gets again what the session registered on it.

An example is an operator of ``@torch.library.custom_op`` with ``@operator.register_fake`` after it.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Iterable, Iterator

from mlnb.capture.replay.statements import Effect, is_setting
from mlnb.capture.slice import Slice
from mlnb.capture.source.nodes import Cell, DefNode, first_line


def registrations(slice_: Slice, cells: Iterable[Cell]) -> Iterator[Effect]:
    """The statements at the top level of cells that register something on what the script makes."""
    namespace = slice_.session.namespace
    made = set(slice_.made_anew.values)
    made |= {
        name
        for name in slice_.definitions
        if slice_.session.has(name) and not isinstance(namespace[name], (types.FunctionType, type))
    }
    for cell in cells if made else ():
        for node in cell.tree.body:
            if isinstance(node, DefNode):
                if any(_object(decorator) in made for decorator in node.decorator_list):
                    yield Effect(cell, node, frozenset())
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                function = node.value.func
                if _object(function) in made and is_setting(getattr(function, "attr", "")):
                    yield Effect(cell, node, frozenset())


def _object(node: ast.expr) -> str | None:
    """``name`` of ``name.method`` and ``name.method(…)``."""
    function = node.func if isinstance(node, ast.Call) else node
    return getattr(function.value, "id", None) if isinstance(function, ast.Attribute) else None


def from_first_decorator(node: DefNode) -> DefNode:
    """A definition whose source begins with its decorators."""
    moved = copy.copy(node)
    moved.lineno, moved.col_offset = first_line(node), 0
    return moved
