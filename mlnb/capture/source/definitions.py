"""Functions and classes of the session as source that makes them again, as they are now.

Their source says how they were made; since then the names they were made with may have been bound again. So what
their source evaluates at once (default values, a class's attributes) is compared with what they hold.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping
from typing import Any

from mlnb.capture.names.analysis import analyse
from mlnb.capture.ship.refusals import why_not
from mlnb.capture.source.classes import patches, score
from mlnb.capture.source.definition import LIVE, Source, as_statement
from mlnb.capture.source.edits import Edit, cut, expression
from mlnb.capture.source.evaluate import assigned, constant, default_pairs, equal, evaluate, unchanged
from mlnb.capture.source.history import Found, Sources, defines, flags_of
from mlnb.capture.source.introspection import cell_of, cells, class_flags, classes, closure, made_by, methods


class Definitions:
    """Finds the source of the session's functions and classes.

    Parameters
    ----------
    sources
        what ran in the session.
    namespace
        the session's names.
    """

    def __init__(self, sources: Sources, namespace: Mapping[str, Any]) -> None:
        self._sources = sources
        self._namespace = namespace
        self._cells: dict[int, str] = {}

    # ---- by name

    def statement(self, name: str, value: Any, called: str | None = None) -> Source | None:
        """The newest ``def``, ``class`` or ``name = lambda`` that binds ``name`` and made ``value``.

        Parameters
        ----------
        called
            the name to define it as, if it isn't ``name``.
        """
        called = called or name
        for found in self._sources.bindings(name):
            if isinstance(found.node, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(found.node, ast.ClassDef):
                cls = next((item for item in classes(value) if score(found, item) > 0), None)
                if cls is not None:
                    return self._class_source(found, cls, called)
            elif isinstance(found.node, (ast.Assign, ast.AnnAssign)):
                source = self._assignment(found, value, called)
                if source is not None:
                    return source
            elif (function := made_by(found, value)) is not None:
                return self._function_source(found, function, called)
        return None

    # ---- by object

    def function(self, name: str, function: types.FunctionType) -> Source | None:
        """Source that defines ``function`` as ``name``, without decorators; ``None`` if there is none."""
        found = self._sources.function(function.__code__)
        if found is None:
            return None
        if found.outer and (function.__closure__ or not isinstance(found.outer[-1], ast.ClassDef)):
            return self._factory(found, function, name)
        if isinstance(found.node, ast.Lambda):
            return self._lambda(found, function, name)
        return self._function_source(found, function, name)

    def cls(self, name: str, cls: type) -> Source | None:
        """Source that defines the class ``cls`` as ``name``; ``None`` if there is none."""
        filename = next(
            (f.__code__.co_filename for f in methods(cls) if "<string>" not in f.__code__.co_filename), None
        )
        best: tuple[float, Found] | None = None
        for found in self._sources.classes(cls.__qualname__, filename):
            fit = score(found, cls)
            if best is None or fit > best[0]:
                best = fit, found
        if best is None:
            return None
        if any(not isinstance(node, ast.ClassDef) for node in best[1].outer):
            return self._factory(best[1], cls, name)
        return self._class_source(best[1], cls, name)

    # ---- functions

    def _function_source(self, found: Found, function: types.FunctionType, name: str) -> Source:
        node = found.node
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        source = Source([], found)
        edits = self._defaults(source, node.args, function, name)
        source.lines = cut(found, edits, name).nested("if True:")
        source.lead = len(source.lines) - (node.end_lineno or 0) + found.first_line - 1
        source.read(found, {edit.node for edit in edits}, postponed=bool(flags_of(function.__code__)))
        self._attributes(source, function, name)
        return source

    def _assignment(self, found: Found, value: Any, name: str) -> Source | None:
        """Source from ``name = lambda …`` or ``name = namedtuple(…)`` and the like."""
        node = found.node
        assert isinstance(node, (ast.Assign, ast.AnnAssign))
        if isinstance(node.value, ast.Lambda):
            return self._lambda(found, value, name) if isinstance(value, types.FunctionType) else None
        assert isinstance(node.value, ast.Call)
        known, called = constant(node.value.args[0])
        if not known or called != getattr(value, "__name__", None):
            return None
        source = Source(f"{name} = {expression(Found(found.cell, node.value))}".split("\n"), found)
        source.read(found, set())
        return source

    def _lambda(self, found: Found, function: types.FunctionType, name: str) -> Source | None:
        node = next(
            (
                inner
                for inner in ast.walk(found.node)
                if isinstance(inner, ast.Lambda) and defines(Found(found.cell, inner), function.__code__)
            ),
            None,
        )
        if node is None:
            return None
        inside = Found(found.cell, node)
        source = Source([], inside)
        source.lines = f"{name} = {expression(inside)}".split("\n")
        for default, live in default_pairs(node.args, function):
            if not unchanged(default, live, self._namespace):
                source.late.append((f"{name}.__defaults__", function.__defaults__))
                break
        source.read(inside, set())
        return source

    def _defaults(self, source: Source, args: ast.arguments, function: types.FunctionType, name: str) -> list[Edit]:
        """Replace default values that would come out differently now."""
        edits = []
        for index, (default, live) in enumerate(default_pairs(args, function)):
            if not unchanged(default, live, self._namespace) and why_not(live) is None:
                generated = f"_{name}_default_{index}"
                source.live[generated] = live
                edits.append(Edit(default, LIVE.format(generated)))
        if len(function.__defaults__ or ()) != len(args.defaults):
            source.late.append((f"{name}.__defaults__", function.__defaults__))
        return edits

    def _attributes(self, source: Source, function: types.FunctionType, name: str) -> None:
        for key, value in vars(function).items():
            if not key.startswith("_") and isinstance(value, (int, float, str, bytes, list, dict, set, tuple)):
                source.late.append((f"{name}.{key}", value))

    # ---- made inside of other functions

    def _factory(self, found: Found, value: types.FunctionType | type, name: str) -> Source | None:
        """Source for what a function of the session made: a function around it holds its variables."""
        node = found.node
        cells = closure(value)
        source = Source([], found)
        maker = f"_make_{name.lstrip('_')}"
        free = analyse(ast.Module([as_statement(node)], []))
        if isinstance(node, ast.Lambda):
            body, indent, inner = f"    return {expression(found)}".split("\n"), "    ", ""
            result = []
        else:
            edits = []
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and isinstance(value, types.FunctionType):
                edits = self._defaults(source, node.args, value, name)
            piece = cut(found, edits)
            body, indent = piece.lines, piece.indent
            inner = node.name  # type: ignore[attr-defined]
            result = [f"{indent}return {inner}"]
        variables = []
        for variable, content in cells.items():
            if variable in (inner, "__class__"):  # it is in its own scope there too
                continue
            variables.append(f"{indent}{variable} = None")
            source.late.append((cell_of(name, value, variable), content))
            self._note_shared(source, name, value, variable)
        for variable, content in self._bases(found, value).items():
            if variable not in cells:
                generated = f"_{name}_{variable}"
                source.live[generated] = content
                variables.append(f"{indent}{variable} = {LIVE.format(generated)}")
        head = [f"def {maker}():", *variables]
        source.lines = [*head, *body, *result, f"{name} = {maker}()"]
        source.lead = len(head)
        local = set(cells)
        source.eager = set(free.required) - local - {inner}
        source.later = (set(free.loads) | set(free.deferred)) - source.eager - local - {inner}
        source.chains = set(free.dotted_names)
        return source

    def _note_shared(self, source: Source, name: str, value: types.FunctionType | type, variable: str) -> None:
        """Functions made by one call share its variables; made anew, each has its own."""
        for cell in cells(value, variable):
            owner = self._cells.setdefault(id(cell), name)
            if owner != name:
                source.notes.append(f"{owner} and {name} share their variable {variable} here, but not in the run")

    @staticmethod
    def _bases(found: Found, value: Any) -> dict[str, type]:
        """The bases that a class made inside of a function has from there."""
        if not isinstance(found.node, ast.ClassDef):
            return {}
        pairs = zip(found.node.bases, value.__bases__, strict=False)
        return {b.id: base for b, base in pairs if isinstance(b, ast.Name) and "<locals>" in base.__qualname__}

    # ---- classes

    def _class_source(self, found: Found, cls: type, name: str) -> Source:
        node = found.node
        assert isinstance(node, ast.ClassDef)
        source = Source([], found)
        edits = []
        for attribute, value in assigned(node):
            if attribute in vars(cls) and not constant(value)[0]:
                live = vars(cls)[attribute]
                known, now = evaluate(value, self._namespace)
                if known and not equal(now, live) and isinstance(live, (int, float, str, bytes, tuple, type(None))):
                    generated = f"_{name}_{attribute}"
                    source.live[generated] = live
                    edits.append(Edit(value, LIVE.format(generated)))
        source.lines = cut(found, edits, name).nested("if True:")
        source.lead = len(source.lines) - (node.end_lineno or 0) + found.first_line - 1
        source.read(found, {edit.node for edit in edits}, postponed=bool(class_flags(cls)))
        source.late += [(f"{name}.{attribute}", value) for attribute, value in patches(found, cls)]
        for expression_, base in zip(node.bases, cls.__bases__, strict=False):
            known, now = evaluate(expression_, self._namespace)
            if known and isinstance(now, type) and now is not base and now.__name__ == base.__name__:
                source.notes.append(f"{name} was defined with an earlier {base.__name__}: it goes with the present one")
        return source

    # ---- evaluation
