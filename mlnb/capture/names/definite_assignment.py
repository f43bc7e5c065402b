"""A cell's top level, in the order in which it runs: which names are read before they are surely bound."""

# ruff: noqa: ARG002, D102, N802, N815 - visit_X are ast.NodeVisitor's hooks: their names say all, not all read all
from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.names.uses import Facts, first
from mlnb.capture.names.walker import Walker


@dataclass
class State:
    """Names bound at a point of the program.

    Attributes
    ----------
    surely
        on every way there; ``None`` where no way leads (after ``raise``, ``break``).
    perhaps
        on some way there.
    """

    surely: set[str] | None = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)

    def copy(self) -> State:
        """A state that changes on its own."""
        return State(None if self.surely is None else set(self.surely), set(self.perhaps))

    def has(self, name: str) -> bool:
        """Whether ``name`` is surely bound."""
        return self.surely is None or name in self.surely


def merge(states: Sequence[State]) -> State:
    """The state where several ways meet."""
    ways = [state.surely for state in states if state.surely is not None]
    perhaps = set().union(*(state.perhaps for state in states))
    return State(set.intersection(*ways) if ways else None, perhaps)


class Flow(Walker):
    """Follows a cell's statements.

    Attributes
    ----------
    loads
        names read that aren't surely bound by the cell before, with their first line.
    certain
        those of them that nothing in the cell can have bound before.
    optional
        names of which every such read comes after a place that perhaps bound them.
    given
        name → what the cell has surely bound each time it reads that name.
    """

    def __init__(self, annotations: bool = True) -> None:
        super().__init__(annotations)
        self.state = State()
        self.loads: dict[str, int] = {}
        self.needed: set[str] = set()
        self.certain: dict[str, int] = {}
        self.given: dict[str, frozenset[str]] = {}
        self.stars: list[str] = []
        self.pending: dict[str, dict[str, int]] = {}
        self.soft: set[str] = set()
        self._soft = False
        self._breaks: list[list[State]] = []
        self._loop_stores: list[set[str]] = []

    # ---- names

    def load(self, name: str, line: int) -> None:
        state = self.state
        if not state.has(name):
            first(self.loads, name, line)
            if name not in state.perhaps:
                self.needed.add(name)
                if not self._soft:
                    first(self.certain, name, line)
        bound = frozenset(state.surely or ())
        self.given[name] = self.given[name] & bound if name in self.given else bound
        for read, at in self.pending.pop(name, {}).items():
            self._load_softly(read, at)

    def perhaps_load(self, name: str, line: int) -> None:
        if not self.state.has(name):
            first(self.loads, name, line)

    def _load_softly(self, name: str, line: int) -> None:
        """``name`` is read when a function is called, now or later."""
        self.soft.add(name)
        before, self._soft = self._soft, True
        self.load(name, line)
        self._soft = before

    def store(self, name: str, line: int) -> None:
        super().store(name, line)
        self.pending.pop(name, None)
        if self.state.surely is not None:
            self.state.surely.add(name)
        self.state.perhaps.add(name)

    def perhaps_store(self, name: str, line: int) -> None:
        self.facts.stores.add(name)
        self.state.perhaps.add(name)

    def delete(self, name: str, line: int) -> None:
        super().delete(name, line)
        if self.state.surely is not None:
            self.state.surely.discard(name)

    def later(self, owner: str | None, facts: Facts) -> None:
        self.facts.stores |= facts.stores
        self.facts.deletes |= facts.deletes
        self.state.perhaps |= facts.stores
        self.facts.effects(facts)
        reads = {**facts.later, **facts.loads}
        if owner is None:
            for name, line in reads.items():
                self._load_softly(name, line)
        else:
            self._defined = (owner, reads)

    _defined: tuple[str, dict[str, int]] | None = None

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        before = self.pending.get(node.name, {})
        super().visit_FunctionDef(node)
        self._defined_as(node, before)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before = self.pending.get(node.name, {})
        super().visit_ClassDef(node)
        self._defined_as(node, before)

    def _defined_as(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, before: dict[str, int]) -> None:
        self._define(node.name, before)
        if node.decorator_list:
            self._load_softly(node.name, node.lineno)  # whatever decorates it may call it

    def visit_Assign(self, node: ast.Assign) -> None:
        before = dict(self.pending)
        self._defined = None
        super().visit_Assign(node)
        if isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self._define(target.id, before.get(target.id, {}))

    def _define(self, name: str, before: dict[str, int]) -> None:
        if self._defined is not None:
            # on another way the older definition may be the one that counts: keep its reads too
            self.pending[name] = {**before, **self._defined[1]}

    # ---- control flow

    def _branch(self, body: Sequence[ast.AST], start: State) -> State:
        """Visit ``body`` from ``start`` as something that may not happen; the state after it."""
        self.state = start.copy()
        for stores in self._loop_stores:  # an earlier turn of the loop may have been elsewhere
            self.state.perhaps |= stores
        for node in body:
            self.visit(node)
        return self.state

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        start = self.state
        one, other = ([node.body], [node.orelse]) if isinstance(node, ast.IfExp) else (node.body, node.orelse)
        self.state = merge([self._branch(one, start), self._branch(other, start)])

    visit_IfExp = visit_If

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        start = self.state
        self.state = merge([start, self._branch(node.values[1:], start)])

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)
        if node.msg:
            start = self.state
            self._branch([node.msg], start)
            self.state = start

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.alias(node.target, node.iter)
        inside = self._enter(node.body)
        start = self.state
        self.state = start.copy()
        self.visit(node.target)
        end, breaks = self._loop(node.body, inside)
        exhausted = merge([start, end])
        self.state = merge([self._branch(node.orelse, exhausted), *breaks])

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        inside = self._enter(node.body)
        self.visit(node.test)
        start = self.state
        forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self.state = start.copy()
        end, breaks = self._loop(node.body, inside)
        exhausted = State(None, end.perhaps) if forever else merge([start, end])
        self.state = merge([self._branch(node.orelse, exhausted), *breaks])

    def _enter(self, body: list[ast.stmt]) -> Facts:
        """What a loop's body does as a whole: an earlier turn may have unbound what it unbinds."""
        walker = Walker(self.annotations)
        walker.run(body)
        if self.state.surely is not None:
            self.state.surely -= walker.facts.deletes
        return walker.facts

    def _loop(self, body: list[ast.stmt], inside: Facts) -> tuple[State, list[State]]:
        self._loop_stores.append(inside.stores)
        self._breaks.append([])
        self.run(body)
        self._loop_stores.pop()
        return self.state, self._breaks.pop()

    def visit_Break(self, node: ast.Break) -> None:
        if self._breaks:
            self._breaks[-1].append(self.state.copy())
        self.state.surely = None

    def visit_Continue(self, node: ast.Continue) -> None:
        self.state.surely = None

    def visit_Raise(self, node: ast.Raise) -> None:
        self.generic_visit(node)
        self.state.surely = None

    def visit_Try(self, node: ast.Try) -> None:
        start = self.state.copy()
        self.run(node.body)
        interrupted = State(None if start.surely is None else set(start.surely), self.state.perhaps | start.perhaps)
        if interrupted.surely is not None:
            interrupted.surely -= self.facts.deletes
        ends = [self._branch(node.orelse, self.state)]
        for handler in node.handlers:
            ends.append(self._branch([handler], interrupted))
            if handler.name and ends[-1].surely is not None:
                ends[-1].surely.discard(handler.name)  # Python unbinds it
        end = merge(ends)
        if node.finalbody:
            started = State(interrupted.surely, end.perhaps | interrupted.perhaps)
            final = self._branch(node.finalbody, started)
            if end.surely is not None and final.surely is not None:
                end.surely |= final.surely
            elif final.surely is None:
                end.surely = None
            end.perhaps |= final.perhaps
        self.state = end

    def visit_TryStar(self, node: Any) -> None:  # Python 3.11's try … except*
        self.visit_Try(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        known = set(self.facts.stores)
        super().visit_ExceptHandler(node)
        if node.name and node.name not in known:
            self.facts.stores.discard(node.name)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item)
        start = self.state.copy()
        self.run(node.body)
        if any(_suppresses(item.context_expr) for item in node.items):
            self.state = merge([start, self.state])

    visit_AsyncWith = visit_With

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        start = self.state
        ends = []
        complete = False
        for case in node.cases:
            self.state = start.copy()
            self.visit(case.pattern)
            if case.guard:
                self.visit(case.guard)
            ends.append(self._branch(case.body, self.state))
            irrefutable = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            complete = complete or (irrefutable and case.guard is None)
        self.state = merge(ends if complete else [start, *ends])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported(node)
        for alias in node.names:
            if alias.name == "*" and node.module and not node.level:
                self.stars.append(node.module)
                bound = star_names(node.module)
                if self.state.surely is not None:
                    self.state.surely |= bound
                self.state.perhaps |= bound


class ClassFlow(Flow):
    """Follows a class's body: what it has surely bound it reads itself, its methods don't see it.

    Attributes
    ----------
    deferred
        what its methods do.
    outer
        names that it declares global.
    through
        names that classes in it read: they don't see what it binds either.
    """

    def __init__(self, annotations: bool = True) -> None:
        super().__init__(annotations)
        self.deferred = Facts()
        self.outer: set[str] = set()
        self.through: dict[str, int] = {}

    def inner_load(self, name: str, line: int, surely: bool) -> None:
        first(self.through, name, line)

    def later(self, owner: str | None, facts: Facts) -> None:
        for name, line in [*facts.loads.items(), *facts.later.items()]:
            first(self.deferred.loads, name, line)
        self.deferred.stores |= facts.stores
        self.deferred.effects(facts)
        self._defined = None

    def visit_Global(self, node: ast.Global) -> None:
        self.outer |= set(node.names)


Walker.class_body = ClassFlow


def star_names(module: str) -> set[str]:
    """What ``from module import *`` binds, if the module is loaded."""
    loaded = vars(sys.modules[module]) if module in sys.modules else {}
    return set(loaded.get("__all__") or (name for name in loaded if not name.startswith("_")))


def _suppresses(node: ast.expr) -> bool:
    """Whether a context manager looks like one that swallows exceptions."""
    called = node.func if isinstance(node, ast.Call) else node
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in ("suppress", "raises")
