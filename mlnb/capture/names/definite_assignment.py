"""Definite assignment: which names are read before they are assigned on every path that leads to the read.

The terms are those of language specifications with such a rule (Java's, C#'s): a name is *definitely assigned* at a
point if every path to it assigns the name, and *possibly assigned* if some path does.
"""

# ruff: noqa: ARG002, D102, N802, N815 - visit_X are ast.NodeVisitor's hooks: the name says it all
from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.names.uses import NameUses, note_line
from mlnb.capture.names.walker import Walker


@dataclass
class Assigned:
    """The names assigned at a point of the program.

    Attributes
    ----------
    definitely
        those assigned on every path; ``None`` if no path leads here (after ``raise``, ``break``).
    possibly
        those assigned on some path.
    """

    definitely: set[str] | None = field(default_factory=set)
    possibly: set[str] = field(default_factory=set)

    def copy(self) -> Assigned:
        """An independent copy."""
        return Assigned(None if self.definitely is None else set(self.definitely), set(self.possibly))

    def is_definite(self, name: str) -> bool:
        """Whether ``name`` is definitely assigned (as every name is where no path leads)."""
        return self.definitely is None or name in self.definitely

    def add(self, names: set[str]) -> None:
        """``names`` are assigned."""
        if self.definitely is not None:
            self.definitely |= names
        self.possibly |= names

    def discard(self, names: set[str]) -> None:
        """``names`` may have been deleted."""
        if self.definitely is not None:
            self.definitely -= names


def merge(states: Sequence[Assigned]) -> Assigned:
    """The state where several paths meet."""
    reachable = [state.definitely for state in states if state.definitely is not None]
    possibly = set().union(*(state.possibly for state in states))
    return Assigned(set.intersection(*reachable) if reachable else None, possibly)


class DefiniteAssignment(Walker):
    """Follows control flow, and records reads of names that aren't definitely assigned.

    Attributes
    ----------
    loads
        names read where they aren't definitely assigned, with the first line that does.
    unassigned
        those of them that some read finds not even possibly assigned.
    required
        those of ``unassigned`` for which such a read is outside of functions, with its first line.
    certain
        those of ``required`` for which such a read is outside of branches, too.
    assigned_before
        name → what is definitely assigned at every read of the name.
    star_imports
        modules of ``from module import *``.
    in_deferred_code
        whether the code that is visited runs in a call, now or later, if at all.
    """

    def __init__(self, evaluates_annotations: bool = True) -> None:
        super().__init__(evaluates_annotations)
        self.state = Assigned()
        self.loads: dict[str, int] = {}
        self.unassigned: set[str] = set()
        self.required: dict[str, int] = {}
        self.certain: set[str] = set()
        self.assigned_before: dict[str, frozenset[str]] = {}
        self.star_imports: list[str] = []
        self.in_deferred_code = False
        self._any_assigned = False  # perhaps, by ``from module import *`` of a module that isn't loaded
        self._branches = 0  # around the code that is visited
        self._breaks: list[list[Assigned]] = []
        self._loop_stores: list[set[str]] = []

    # ---- names

    def load(self, name: str, line: int) -> None:
        state = self.state
        if not state.is_definite(name):
            note_line(self.loads, name, line)
            if name not in state.possibly and not self._any_assigned:
                self.unassigned.add(name)
                if not self.in_deferred_code:
                    note_line(self.required, name, line)
                    self.certain |= set() if self._branches else {name}
        assigned = frozenset(state.definitely or ())
        self.assigned_before[name] = self.assigned_before.get(name, assigned) & assigned

    def store(self, name: str, line: int) -> None:
        super().store(name, line)
        self.state.add({name})

    def delete(self, name: str, line: int) -> None:
        super().delete(name, line)
        self.state.discard({name})

    # ---- control flow

    def _branch(self, nodes: Sequence[ast.AST], start: Assigned) -> Assigned:
        """Visit ``nodes``, which may not run, from ``start``; the state after them."""
        self.state = start.copy()
        for stores in self._loop_stores:  # an earlier iteration may have taken another branch
            self.state.possibly |= stores
        self._branches += 1
        self.run(nodes)
        self._branches -= 1
        return self.state

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        start = self.state
        body, orelse = ([node.body], [node.orelse]) if isinstance(node, ast.IfExp) else (node.body, node.orelse)
        self.state = merge([self._branch(body, start), self._branch(orelse, start)])

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
        self.note_alias(node.target, node.iter)
        body_uses = self._enter_loop(node.body)
        start = self.state
        self.state = start.copy()
        self.visit(node.target)
        end, breaks = self._loop(node.body, body_uses)
        exhausted = merge([start, end])
        self.state = merge([self._branch(node.orelse, exhausted), *breaks])

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        body_uses = self._enter_loop(node.body)
        self.visit(node.test)
        start = self.state
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self.state = start.copy()
        end, breaks = self._loop(node.body, body_uses)
        exhausted = Assigned(None, end.possibly) if endless else merge([start, end])
        self.state = merge([self._branch(node.orelse, exhausted), *breaks])

    def _enter_loop(self, body: list[ast.stmt]) -> NameUses:
        """What a loop's body does: names it deletes may be gone already in the second iteration."""
        uses = self.uses_of(body)
        self.state.discard(uses.deletes)
        return uses

    def _loop(self, body: list[ast.stmt], body_uses: NameUses) -> tuple[Assigned, list[Assigned]]:
        """Visit a loop's body; the states at its end and at its ``break`` statements."""
        self._loop_stores.append(body_uses.stores)
        self._breaks.append([])
        self.run(body)
        self._loop_stores.pop()
        return self.state, self._breaks.pop()

    def visit_Break(self, node: ast.Break) -> None:
        if self._breaks:
            self._breaks[-1].append(self.state.copy())
        self.state.definitely = None

    def visit_Continue(self, node: ast.Continue) -> None:
        self.state.definitely = None

    def visit_Raise(self, node: ast.Raise) -> None:
        self.generic_visit(node)
        self.state.definitely = None

    def visit_Try(self, node: ast.Try) -> None:
        start = self.state.copy()
        self._branches += bool(node.handlers)  # what is not defined may be caught
        self.run(node.body)
        self._branches -= bool(node.handlers)
        interrupted = Assigned(start.copy().definitely, self.state.possibly | start.possibly)
        interrupted.discard(self.uses.deletes)
        ends = [self._branch(node.orelse, self.state)]
        for handler in node.handlers:
            end = self._branch([handler], interrupted)
            if handler.name:
                end.discard({handler.name})  # Python deletes it after the handler
            ends.append(end)
        end = merge(ends)
        if node.finalbody:
            before = Assigned(interrupted.definitely, end.possibly | interrupted.possibly)
            before.discard(self.uses.deletes)  # a handler may have deleted them
            deleted_before, self.uses.deletes = self.uses.deletes, set()
            final = self._branch(node.finalbody, before)
            if final.definitely is None:
                end.definitely = None
            elif end.definitely is not None:
                end.definitely = end.definitely - self.uses.deletes | final.definitely
            self.uses.deletes |= deleted_before
            end.possibly |= final.possibly
        self.state = end

    def visit_TryStar(self, node: Any) -> None:  # Python 3.11's try … except*
        self.visit_Try(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        stores_before = set(self.uses.stores)
        super().visit_ExceptHandler(node)
        if node.name and node.name not in stores_before:
            self.uses.stores.discard(node.name)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        self.run(node.items)
        start = self.state.copy()
        suppresses = any(_suppresses_exceptions(item.context_expr) for item in node.items)
        self._branches += suppresses
        self.run(node.body)
        self._branches -= suppresses
        if suppresses:
            self.state = merge([start, self.state])

    visit_AsyncWith = visit_With

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        start = self.state
        ends = []
        exhaustive = False
        for case in node.cases:
            self.state = start.copy()
            self.visit(case.pattern)
            if case.guard:
                self.visit(case.guard)
            ends.append(self._branch(case.body, self.state))
            irrefutable = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            exhaustive = exhaustive or (irrefutable and case.guard is None)
        self.state = merge(ends if exhaustive else [start, *ends])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.store_imported(node)
        for alias in node.names:
            if alias.name == "*" and node.module and not node.level:
                self.star_imports.append(node.module)
                self.state.add(_star_names(node.module))
                self._any_assigned |= node.module not in sys.modules


def _star_names(module: str) -> set[str]:
    """What ``from module import *`` assigns, if the module is loaded."""
    loaded = vars(sys.modules[module]) if module in sys.modules else {}
    return set(loaded.get("__all__") or (name for name in loaded if not name.startswith("_")))


def _suppresses_exceptions(node: ast.expr) -> bool:
    """Whether a context manager looks like one that swallows exceptions."""
    called = node.func if isinstance(node, ast.Call) else node
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in ("suppress", "raises")
