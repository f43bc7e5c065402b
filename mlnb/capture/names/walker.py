"""What a piece of code does to names that aren't its own: reads, bindings, changes in place.

:class:`Walker` knows Python's expressions and statements; what a name's read or binding means is left to hooks. Here
they say what a function's or a class's body does, whatever the order; ``mlnb.capture.names.definite_assignment``
follows it.
"""

# ruff: noqa: ARG002, D102, N815 - visit_X are ast.NodeVisitor's hooks: their names say all, not all read all
from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

from mlnb.capture.names import effects
from mlnb.capture.names.uses import Facts, first

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class ClassBody(Protocol):
    """A walker of a class's body: what it leaves to the scope around it."""

    facts: Facts
    deferred: Facts
    outer: set[str]
    through: dict[str, int]
    needed: set[str]
    type_parameters: set[str]

    @property
    def loads(self) -> Mapping[str, int]:
        """Names that the body reads from outside, with their first line."""

    def run(self, body: Sequence[ast.stmt]) -> None:
        """Walk through the body."""


class Walker(ast.NodeVisitor):
    """Visits code in the order in which it runs and tells of names by hooks.

    Parameters
    ----------
    annotations
        whether annotations are evaluated (they aren't under ``from __future__ import annotations``).
    """

    class_body: ClassVar[Callable[[bool], ClassBody]]
    """Makes the walker of a class's body. ``definite_assignment`` sets it: that walker is made from this one."""

    def __init__(self, annotations: bool = True) -> None:
        self.facts = Facts()
        self.annotations = annotations
        self.in_function = False
        self.type_parameters: set[str] = set()

    # ---- hooks

    def load(self, name: str, line: int) -> None:
        """``name`` is read."""
        first(self.facts.loads, name, line)

    def store(self, name: str, line: int) -> None:
        """``name`` is bound."""
        self.facts.stores.add(name)

    def delete(self, name: str, line: int) -> None:
        """``name`` is unbound."""
        self.facts.deletes.add(name)

    def later(self, owner: str | None, facts: Facts) -> None:
        """Code that runs later is defined: a function's body, known as ``owner``."""
        for name, line in [*facts.loads.items(), *facts.later.items()]:
            first(self.facts.later, name, line)
        self.facts.stores |= facts.stores
        self.facts.deletes |= facts.deletes
        self.facts.effects(facts)

    def perhaps_load(self, name: str, line: int) -> None:
        """``name`` is read, unless code with a scope of its own has bound it there before."""
        self.load(name, line)

    def inner(self, facts: Facts) -> None:
        """Code with a scope of its own has run: a comprehension."""
        for name, line in facts.loads.items():
            self.load(name, line)
        self.facts.effects(facts)

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
        chain = effects.chain(node)
        if chain:
            self.facts.chains.add(chain)
        if not isinstance(node.ctx, ast.Load):
            self._change(node)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        changes, touches = effects.of_call(node)
        self.facts.changes |= changes
        self.facts.touches |= touches
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.alias(node.target, node.value)
        self.visit(node.target)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.signature(node.args)
        self.later(None, function_facts(node, self.annotations))

    def _comprehension(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        walker = _Comprehension(self.annotations)
        walker.in_function = self.in_function
        for number, generator in enumerate(node.generators):
            if number:
                walker.visit(generator.iter)
            walker.alias(generator.target, generator.iter)
            walker.visit(generator.target)
            for condition in generator.ifs:
                walker.visit(condition)
        for element in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            walker.visit(element)
        walker.facts.spread()
        local = walker.facts.stores
        self.inner(walker.facts.without(local))
        self.later(None, Facts(loads=walker.facts.without(local).later))
        for name in walker.bound:
            self.perhaps_store(name, node.lineno)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def perhaps_store(self, name: str, line: int) -> None:
        """``name`` is bound, if the code runs at all."""
        self.store(name, line)

    # ---- statements

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if isinstance(node.value, ast.Lambda) and names:
            self.signature(node.value.args)
            for name in names:
                self.later(name, function_facts(node.value, self.annotations))
        else:
            self.visit(node.value)
        for target in node.targets:
            self.alias(target, node.value)
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not self.in_function:  # a function's own annotations of variables are never evaluated
            self.annotation(node.annotation)
        if node.value:
            self.visit(node.value)
            self.alias(node.target, node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._change(node.target)
        if isinstance(node.target, ast.Name):
            self.load(node.target.id, node.lineno)
        self.visit(node.value)
        self.visit(node.target)

    def visit_Import(self, node: ast.Import) -> None:
        self.imported(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported(node)

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        """Bind what an import binds."""
        for alias in node.names:
            if alias.name != "*":
                self.store(alias.asname or alias.name.split(".")[0], node.lineno)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        enclosing, self.type_parameters = self.type_parameters, self.type_parameters | type_parameters(node)
        self.signature(node.args)
        if node.returns:
            self.annotation(node.returns)
        self.type_parameters = enclosing
        self.later(node.name, function_facts(node, self.annotations))
        self.store(node.name, node.lineno)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        enclosing, self.type_parameters = self.type_parameters, self.type_parameters | type_parameters(node)
        for expression in [*node.bases, *node.keywords]:
            self.visit(expression)
        walker = Walker.class_body(self.annotations)
        walker.type_parameters, self.type_parameters = self.type_parameters, enclosing
        walker.run(node.body)
        walker.facts.spread()
        for name, line in walker.loads.items():
            if name in walker.facts.stores | walker.outer:
                first(self.facts.past, name, line)
            self.inner_load(name, line, name in walker.needed)
        for name, line in walker.through.items():
            self.inner_load(name, line, True)
        own = walker.facts.stores - walker.outer
        self.facts.effects(walker.facts.without(own))
        deferred = Facts(loads=walker.deferred.loads, stores=walker.outer | walker.deferred.stores)
        deferred.effects(walker.deferred)
        self.later(node.name, deferred)
        self.store(node.name, node.lineno)

    def inner_load(self, name: str, line: int, surely: bool) -> None:
        """A class's body here reads ``name`` from outside of itself, ``surely`` or where it has not bound it."""
        if surely:
            self.load(name, line)
        else:
            self.perhaps_load(name, line)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.alias(node.target, node.iter)
        self.visit(node.target)
        self.run([*node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_withitem(self, node: ast.withitem) -> None:
        self.facts.touches |= effects.roots(node.context_expr)
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
            self.facts.touches |= effects.roots(node.value)
            self.visit(node.value)

    visit_Yield = visit_Return

    # ---- helpers

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Visit statements in their order."""
        for statement in body:
            self.visit(statement)

    def signature(self, args: ast.arguments) -> None:
        """Visit what a definition evaluates at once: default values and annotations."""
        for default in [*args.defaults, *args.kw_defaults]:
            if default is not None:
                self.visit(default)
        for arg in parameters(args):
            if arg.annotation:
                self.annotation(arg.annotation)

    def annotation(self, node: ast.expr) -> None:
        """Visit an annotation, evaluated at once or not at all."""
        if self.annotations:
            self.visit(node)
        else:
            walker = Walker()
            walker.visit(node)
            self.facts.hints |= set(walker.facts.loads)

    def alias(self, target: ast.expr, value: ast.expr) -> None:
        """Note that ``target`` may be (a part of) what names in ``value`` hold."""
        roots = effects.views(value)
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.facts.aliases |= {(node.id, root) for root in roots}
            elif isinstance(node, (ast.Attribute, ast.Subscript)):
                self.facts.touches |= roots

    def _change(self, target: ast.expr) -> None:
        root = effects.root(target)
        if root:
            self.facts.changes.add(root)


class _Comprehension(Walker):
    """The inside of a comprehension: its targets are its own, a walrus binds outside."""

    def __init__(self, annotations: bool) -> None:
        super().__init__(annotations)
        self.bound: set[str] = set()

    def load(self, name: str, line: int) -> None:
        if name not in self.bound:
            super().load(name, line)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.bound.add(node.target.id)

    def perhaps_store(self, name: str, line: int) -> None:
        self.bound.add(name)


class _FunctionBody(Walker):
    """A function's body, whatever the order: what it binds anywhere is its own."""

    def __init__(self, annotations: bool) -> None:
        super().__init__(annotations)
        self.in_function = True
        self.outer: set[str] = set()
        self.enclosing: set[str] = set()

    def visit_Global(self, node: ast.Global) -> None:
        self.outer |= set(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.enclosing |= set(node.names)

    def later(self, owner: str | None, facts: Facts) -> None:
        for name, line in [*facts.loads.items(), *facts.later.items()]:
            first(self.facts.loads, name, line)
        self.outer |= facts.stores | facts.deletes
        self.facts.stores |= facts.stores
        self.facts.deletes |= facts.deletes
        self.facts.effects(facts)


def parameters(args: ast.arguments) -> Iterator[ast.arg]:
    """Every parameter."""
    yield from [*args.posonlyargs, *args.args, *args.kwonlyargs]
    for arg in (args.vararg, args.kwarg):
        if arg:
            yield arg


def type_parameters(node: ast.AST) -> set[str]:
    """The names in brackets of ``def f[T](…)`` and ``class C[T]`` (Python 3.12)."""
    return {parameter.name for parameter in getattr(node, "type_params", ())}


def function_facts(node: Function, annotations: bool = True) -> Facts:
    """What a function does to names outside of it when it is called."""
    walker = _FunctionBody(annotations)
    if isinstance(node, ast.Lambda):
        walker.visit(node.body)
    else:
        walker.run(node.body)
    walker.facts.spread()
    # a nested function's global statement says "global" of that name there only; a name both bound here and
    # declared global in a nested function is taken for global: too much is captured rather than too little
    bound = walker.facts.stores | walker.facts.deletes
    local = {arg.arg for arg in parameters(node.args)} | (bound - walker.outer - walker.enclosing)
    found = walker.facts.without((local | type_parameters(node)) - walker.outer)
    found.stores &= walker.outer
    found.deletes &= walker.outer
    for name, line in found.past.items():
        first(found.loads, name, line)
    return found
