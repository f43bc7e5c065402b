"""Source that defines one name, as capture finds or makes it."""

from __future__ import annotations

import ast
import copy
import functools
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.names.analysis import CellNames, analyse
from mlnb.capture.source.history import Found

LIVE = "\0{}\0"
"""Stands in a text for a live value whose name isn't known yet."""


@dataclass
class Source:
    """Source that defines one name.

    Attributes
    ----------
    lines
        the text.
    found
        where most of it was written.
    lead
        lines of ``lines`` before those that were.
    eager, later
        names read when the text runs, and names read when what it defines is called.
    hints
        names in annotations that aren't evaluated.
    chains
        dotted names in it.
    live
        generated name → live value that the text reads when it runs.
    late
        ``(expression to assign to, live value)``: to be done when all names are bound.
    notes
        what the person should know.
    """

    lines: list[str]
    found: Found
    lead: int = 0
    eager: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    hints: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    live: dict[str, Any] = field(default_factory=dict)
    late: list[tuple[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self, found: Found, replaced: set[ast.expr], *, postponed: bool = False) -> None:
        """Note which names the statement ``found`` reads, now and later.

        Parameters
        ----------
        replaced
            expressions in it that won't be evaluated.
        postponed
            whether its annotations aren't evaluated.
        """
        if replaced:
            names = analyse(without(as_statement(found.node), replaced), postponed=postponed)
        else:
            names = names_of(found.node, postponed)
        own = {getattr(found.node, "name", "")}
        self.eager |= set(names.required) - own
        self.later |= (set(names.loads) | set(names.deferred)) - self.eager - own
        self.hints |= set(names.annotation_names) - own
        self.chains |= set(names.dotted_names)


@functools.lru_cache(maxsize=4096)
def names_of(node: ast.AST, postponed: bool = False) -> CellNames:
    """What a statement (or a lambda's making) does to names; remembered, since trees are shared by text."""
    return analyse(ast.Module([as_statement(node)], []), postponed=postponed)


def as_statement(node: ast.AST) -> ast.stmt:
    """A node as a statement of its own: a lambda is bound to a name, so that its body counts as run later."""
    if isinstance(node, ast.Lambda):
        target = ast.copy_location(ast.Name("_", ast.Store()), node)
        return ast.copy_location(ast.Assign([target], node), node)
    assert isinstance(node, ast.stmt)
    return node


class _Replaced(ast.NodeTransformer):
    def __init__(self, nodes: set[ast.expr]) -> None:
        self._nodes = nodes

    def visit(self, node: ast.AST) -> ast.AST:
        if node in self._nodes:
            return ast.copy_location(ast.Constant(None), node)
        replaced: ast.AST = super().visit(node)
        return replaced


def without(node: ast.stmt, replaced: set[ast.expr]) -> ast.Module:
    """The statement without some expressions, as a tree of its own."""
    marks = {(e.lineno, e.col_offset, type(e)) for e in replaced}
    tree = copy.deepcopy(node)
    same = {
        inner
        for inner in ast.walk(tree)
        if isinstance(inner, ast.expr) and (inner.lineno, inner.col_offset, type(inner)) in marks
    }
    return ast.Module([_Replaced(same).visit(tree)], [])  # type: ignore[list-item]
