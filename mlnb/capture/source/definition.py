"""DefinitionSource: source code that defines one name, with what it needs."""

from __future__ import annotations

import ast
import copy
import functools
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.names.analysis import CellNames, analyse
from mlnb.capture.source.nodes import SourceNode

PLACEHOLDER = "\0{}\0"
"""Stands in source for a live value whose name in the script isn't decided yet."""


@dataclass
class DefinitionSource:
    """Source code that defines one name.

    Attributes
    ----------
    lines
        the source.
    origin
        the statement that most of it comes from.
    header_lines
        how many of ``lines`` stand before those of ``origin``.
    required
        names that it reads when it runs.
    deferred
        names that what it defines reads when called.
    annotation_names
        names in annotations that aren't evaluated.
    dotted_names
        dotted names in it.
    live_values
        generated name → live value that it reads when it runs, by a :data:`PLACEHOLDER`.
    deferred_assignments
        pairs of an expression to assign to and a live value, to assign when all names are defined.
    can_stay
        those of these expressions that keep what the source assigns if the live value can't be sent.
    registered
        types and their implementations, of a generic function (``functools.singledispatch``).
    virtual_subclasses
        classes that were registered as subclasses of an abstract class.
    caches
        expressions for functions with a cache, and the session's functions.
    imports
        import statements that it needs.
    notes
        what to tell the user.
    """

    lines: list[str]
    origin: SourceNode
    header_lines: int = 0
    required: set[str] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    annotation_names: set[str] = field(default_factory=set)
    dotted_names: set[str] = field(default_factory=set)
    live_values: dict[str, Any] = field(default_factory=dict)
    deferred_assignments: list[tuple[str, Any]] = field(default_factory=list)
    can_stay: set[str] = field(default_factory=set)
    registered: list[tuple[type, Any]] = field(default_factory=list)
    virtual_subclasses: list[type] = field(default_factory=list)
    caches: list[tuple[str, Any]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add_names(self, source: SourceNode, replaced: set[ast.expr], *, postponed: bool = False) -> None:
        """Add the names that a statement reads.

        Parameters
        ----------
        replaced
            expressions in it that won't be evaluated.
        postponed
            whether its annotations aren't evaluated.
        """
        if replaced:
            names = analyse(_without(as_statement(source.node), replaced), postponed=postponed)
        else:
            names = names_of(source.node, postponed)
        own = {getattr(source.node, "name", "")}
        self.required |= names.required - own
        self.deferred |= (names.loads | names.deferred) - self.required - own
        self.annotation_names |= names.annotation_names - own
        self.dotted_names |= names.dotted_names


@functools.lru_cache(maxsize=4096)
def names_of(node: ast.AST, postponed: bool = False) -> CellNames:
    """What a statement (or the creation of a lambda) does to names; cached, since equal cells share their trees."""
    return analyse(ast.Module([as_statement(node)], []), postponed=postponed)


def as_statement(node: ast.AST) -> ast.stmt:
    """A node as a statement: a lambda is assigned to a name, so that its body counts as deferred code."""
    if isinstance(node, ast.Lambda):
        target = ast.copy_location(ast.Name("_", ast.Store()), node)
        return ast.copy_location(ast.Assign([target], node), node)
    assert isinstance(node, ast.stmt)
    return node


class _ReplaceByNone(ast.NodeTransformer):
    """Replaces nodes by ``None``."""

    def __init__(self, nodes: set[ast.expr]) -> None:
        self._nodes = nodes

    def visit(self, node: ast.AST) -> ast.AST:
        if node in self._nodes:
            return ast.copy_location(ast.Constant(None), node)
        visited: ast.AST = super().visit(node)
        return visited


def _without(node: ast.stmt, replaced: set[ast.expr]) -> ast.Module:
    """A copy of a statement, some of its expressions replaced by ``None``."""
    positions = {(e.lineno, e.col_offset, type(e)) for e in replaced}
    tree = copy.deepcopy(node)
    copies = {
        inner
        for inner in ast.walk(tree)
        if isinstance(inner, ast.expr) and (inner.lineno, inner.col_offset, type(inner)) in positions
    }
    return ast.Module([_ReplaceByNone(copies).visit(tree)], [])  # type: ignore[list-item]
