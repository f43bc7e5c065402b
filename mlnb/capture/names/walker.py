"""Walker: visits Python code in execution order and reports each use of a name to a hook.

This module covers expressions and simple statements. ``definite_assignment`` adds control flow, ``scopes`` adds nested
functions, classes and comprehensions.
"""

# ruff: noqa: ARG002, D102, N815 - visit_X are ast.NodeVisitor's hooks: the name says it all, not all use every argument
from __future__ import annotations

import abc
import ast
from collections.abc import Iterable, Iterator

from mlnb.capture.names import effects
from mlnb.capture.names.uses import NameUses, note_line


class Walker(ast.NodeVisitor, abc.ABC):
    """Visits code in execution order and reports each use of a name to a hook.

    Parameters
    ----------
    evaluates_annotations
        whether Python evaluates annotations here (not after ``from __future__ import annotations``).

    Attributes
    ----------
    uses
        what the code visited so far does to names.
    in_function
        whether the code is a function's body.
    type_parameters
        names in brackets of an enclosing ``def f[T](…)`` or ``class C[T]``, which aren't variables of the session.
    """

    def __init__(self, evaluates_annotations: bool = True) -> None:
        self.uses = NameUses()
        self.evaluates_annotations = evaluates_annotations
        self.in_function = False
        self.type_parameters: set[str] = set()

    # ---- hooks

    def load(self, name: str, line: int) -> None:
        """``name`` is read."""
        note_line(self.uses.loads, name, line)

    def store(self, name: str, line: int) -> None:
        """``name`` is assigned."""
        self.uses.stores.add(name)

    def delete(self, name: str, line: int) -> None:
        """``name`` is deleted."""
        self.uses.deletes.add(name)

    @abc.abstractmethod
    def uses_of(self, nodes: Iterable[ast.AST]) -> NameUses:
        """What ``nodes`` do to names, their order ignored."""

    # ---- expressions

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.type_parameters:
            return
        if isinstance(node.ctx, ast.Load):
            self.load(node.id, node.lineno)
        elif isinstance(node.ctx, ast.Store):
            self.store(node.id, node.lineno)
        else:
            self.load(node.id, node.lineno)
            self.delete(node.id, node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = effects.dotted_name(node)
        if dotted:
            self.uses.dotted_names.add(dotted)
        if not isinstance(node.ctx, ast.Load):
            self._note_mutation(node)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._note_mutation(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        mutated, maybe_mutated = effects.of_call(node)
        self.uses.mutated |= mutated
        self.uses.maybe_mutated |= maybe_mutated
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.note_alias(node.target, node.value)
        self.visit(node.target)

    # ---- statements

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        self.assign_targets(node)

    def assign_targets(self, node: ast.Assign) -> None:
        """Visit what an assignment assigns to, after its value."""
        for target in node.targets:
            self.note_alias(target, node.value)
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not self.in_function:  # annotations of local variables are never evaluated
            self.annotation(node.annotation)
        if node.value:
            self.visit(node.value)
            self.note_alias(node.target, node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._note_mutation(node.target)
        if isinstance(node.target, ast.Name):
            self.load(node.target.id, node.lineno)
        self.visit(node.value)
        self.visit(node.target)

    def visit_Import(self, node: ast.Import) -> None:
        self.store_imported(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.store_imported(node)

    def store_imported(self, node: ast.Import | ast.ImportFrom) -> None:
        """Store the names that an import assigns."""
        for alias in node.names:
            if alias.name != "*":
                self.store(alias.asname or alias.name.split(".")[0], node.lineno)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.note_alias(node.target, node.iter)
        self.visit(node.target)
        self.run([*node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_withitem(self, node: ast.withitem) -> None:
        self.uses.maybe_mutated |= effects.roots(node.context_expr)
        self.visit(node.context_expr)
        if node.optional_vars:
            self.visit(node.optional_vars)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        if node.name:
            self.store(node.name, node.lineno)
        self.run(node.body)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name:
            self.store(node.name, node.lineno)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self.store(node.rest, node.lineno)

    def visit_Return(self, node: ast.Return | ast.Yield) -> None:
        if node.value:
            self.uses.maybe_mutated |= effects.roots(node.value)
            self.visit(node.value)

    visit_Yield = visit_Return

    # ---- helpers

    def run(self, nodes: Iterable[ast.AST]) -> None:
        """Visit nodes in their order."""
        for node in nodes:
            self.visit(node)

    def signature(self, args: ast.arguments) -> None:
        """Visit what a ``def`` evaluates at once: default values and annotations."""
        for default in [*args.defaults, *args.kw_defaults]:
            if default is not None:
                self.visit(default)
        for arg in parameters(args):
            if arg.annotation:
                self.annotation(arg.annotation)

    def annotation(self, node: ast.expr) -> None:
        """Visit an annotation, which is evaluated at once or never."""
        if self.evaluates_annotations:
            self.visit(node)
        else:
            self.uses.annotation_names |= set(self.uses_of([node]).loads)

    def note_alias(self, target: ast.expr, value: ast.expr) -> None:
        """Record that ``target`` may now be (a part of) what names in ``value`` refer to."""
        originals = effects.views(value)
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.uses.aliases |= {(node.id, original) for original in originals}
            elif isinstance(node, (ast.Attribute, ast.Subscript)):
                self.uses.maybe_mutated |= originals

    def _note_mutation(self, target: ast.expr) -> None:
        name = effects.root(target)
        if name:
            self.uses.mutated.add(name)


def parameters(args: ast.arguments) -> Iterator[ast.arg]:
    """Every parameter of a function."""
    yield from [*args.posonlyargs, *args.args, *args.kwonlyargs]
    for arg in (args.vararg, args.kwarg):
        if arg:
            yield arg
