"""DefinitionFinder: source that defines the session's functions and classes as they are now.

Their source tells how they were created. Since then the names they were created with may have been assigned again, so
whatever the source evaluates at once (default values, class attributes) is compared with the live values.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping
from typing import Any

from mlnb.capture.names.analysis import analyse
from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.capture.source.bytecode import defines, flags_of
from mlnb.capture.source.classes import changed_attributes, is_data, is_plain, mangled, match_score
from mlnb.capture.source.definition import PLACEHOLDER, DefinitionSource, as_statement
from mlnb.capture.source.edits import Edit, cut, expression
from mlnb.capture.source.evaluate import (
    UNKNOWN,
    changed_defaults,
    class_attributes,
    constant,
    default_pairs,
    equal,
    evaluate,
    unchanged,
)
from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.introspection import (
    class_flags,
    closure_cell_expression,
    closure_cells,
    closure_variables,
    function_created_by,
    is_from_session,
    is_generated,
    methods,
    registered_implementations,
    virtual_subclasses,
    wrapped_classes,
    wrapped_functions,
)
from mlnb.capture.source.nodes import SourceNode, with_decorators
from mlnb.node.data.kinds import caches


class DefinitionFinder:
    """Finds source that defines the session's functions and classes.

    Parameters
    ----------
    history
        the source that ran in the session.
    namespace
        the session's names.
    """

    def __init__(self, history: SourceHistory, namespace: Mapping[str, Any]) -> None:
        self._history = history
        self._namespace = namespace
        self._cell_owners: dict[int, tuple[str, str]] = {}

    # ---- by name

    def by_name(self, name: str, value: Any, define_as: str | None = None) -> DefinitionSource | None:
        """The newest ``def``, ``class`` or ``name = lambda`` that assigns ``name`` and created ``value``.

        Parameters
        ----------
        define_as
            the name to define it as, if not ``name``.
        """
        define_as = define_as or name
        for statement in self._history.definitions(name):
            if isinstance(statement.node, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(statement.node, ast.ClassDef):
                cls = next((item for item in wrapped_classes(value) if match_score(statement, item) > 0), None)
                if cls is not None:
                    kept = self._needed_decorators(statement, cls, value)
                    return self._class_source(kept, cls, define_as)
            elif isinstance(statement.node, (ast.Assign, ast.AnnAssign)):
                source = self._assignment_source(statement, value, define_as)
                if source is not None:
                    return source
            elif (function := function_created_by(statement, value)) is not None:
                kept = self._needed_decorators(statement, function, value)
                is_wrapped_since = function is not value and not kept.node.decorator_list  # type: ignore[attr-defined]
                if is_wrapped_since or self._wraps_current(name, value):
                    return None
                return self._function_source(kept, function, define_as, value)
        return None

    def _wraps_current(self, name: str, value: Any) -> bool:
        """Whether ``value`` was made of what ``name`` is now, so that no definition of ``name`` has made it."""
        current = self._namespace.get(name)
        return current is not value and any(function is current for function in wrapped_functions(value))

    # ---- by object

    def for_function(self, name: str, function: types.FunctionType) -> DefinitionSource | None:
        """Source that defines ``function`` as ``name``, without decorators; ``None`` if there is none."""
        statement = self._history.function(function.__code__)
        if statement is None:
            return None
        if statement.enclosing and (function.__closure__ or not isinstance(statement.enclosing[-1], ast.ClassDef)):
            return self._factory_source(statement, function, name)
        if isinstance(statement.node, ast.Lambda):
            return self._lambda_source(statement, function, name)
        return self._function_source(with_decorators(statement, ()), function, name)

    def for_class(self, name: str, cls: type) -> DefinitionSource | None:
        """Source that defines the class ``cls`` as ``name``; ``None`` if there is none."""
        filenames = (method.__code__.co_filename for method in methods(cls))
        filename = next((filename for filename in filenames if "<string>" not in filename), None)
        candidates = self._history.classes(cls.__qualname__, filename)
        best = max(candidates, key=lambda candidate: match_score(candidate, cls), default=None)
        if best is None:
            return None
        if any(not isinstance(node, ast.ClassDef) for node in best.enclosing):
            return self._factory_source(best, cls, name)
        return self._class_source(best, cls, name)

    def _needed_decorators(self, statement: SourceNode, created: Any, value: Any) -> SourceNode:
        """A definition without those outer decorators of the session that have returned what they were given.

        Such are functions of the notebook, and methods of objects that the session has made: ``@engine.on(…)``. What
        they did besides (they may have put it into a registry) is in the values that they changed, which are sent.
        """
        if self._is_from_notebook(value) and value is not created:
            return statement
        if isinstance(value, type) and any(is_generated(method) for method in methods(value)):
            return statement
        decorators = list(statement.node.decorator_list)  # type: ignore[attr-defined]
        while decorators and self._is_of_session(decorators[0]):
            del decorators[0]
        return with_decorators(statement, tuple(decorators))

    def _is_of_session(self, decorator: ast.expr) -> bool:
        """Whether a decorator is a function of the notebook, or a method of an object that the session has made."""
        is_method = False
        while isinstance(decorator, (ast.Call, ast.Attribute)):
            is_method = is_method or isinstance(decorator, ast.Attribute)
            decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
        if not isinstance(decorator, ast.Name) or decorator.id not in self._namespace:
            return False
        value = self._namespace[decorator.id]
        if self._is_from_notebook(value):
            return True
        if not is_method or isinstance(value, (types.ModuleType, types.FunctionType, type)):
            return False
        statement = self._history.binding(decorator.id)
        return statement is not None and not isinstance(statement.node, (ast.Import, ast.ImportFrom))

    @staticmethod
    def _is_from_notebook(value: Any) -> bool:
        if isinstance(value, types.FunctionType):
            return is_from_session(value)
        return (value if isinstance(value, type) else type(value)).__module__ == "__main__"

    # ---- functions

    def _function_source(
        self, statement: SourceNode, function: types.FunctionType, name: str, decorated: Any = None
    ) -> DefinitionSource:
        """Source from a ``def`` statement; ``decorated`` is what its decorators have made of ``function``, if any."""
        node = statement.node
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        source = DefinitionSource([], statement)
        edits = self._default_edits(source, node.args, function, name)
        excerpt = cut(statement, edits, name)
        source.lines = excerpt.nested("if True:")
        source.header_lines = len(source.lines) - len(excerpt.lines)
        postponed = bool(flags_of(function.__code__))
        source.add_names(statement, {edit.node for edit in edits}, postponed=postponed)
        for attribute, value in getattr(function if decorated is None else decorated, "__dict__", {}).items():
            is_users = is_data(value) or not node.decorator_list  # a decorator's own attributes are made again by it
            if is_users and not attribute.startswith("_") and unshippable_reason(value) is None:
                source.deferred_assignments.append((f"{name}.{attribute}", value))
        source.registered = registered_implementations(decorated)
        path, cached = caches.cached_in(decorated)
        source.caches += [(f"{name}{path}", cached)] if cached is not None else []
        return source

    def _assignment_source(self, statement: SourceNode, value: Any, name: str) -> DefinitionSource | None:
        """Source from ``name = lambda …``, ``name = namedtuple(…)`` and the like."""
        node = statement.node
        assert isinstance(node, (ast.Assign, ast.AnnAssign))
        if isinstance(node.value, ast.Lambda):
            return self._lambda_source(statement, value, name) if isinstance(value, types.FunctionType) else None
        assert isinstance(node.value, ast.Call)
        if constant(node.value.args[0]) != getattr(value, "__name__", None):
            return None
        lines = f"{name} = {expression(SourceNode(statement.cell, node.value))}".split("\n")
        source = DefinitionSource(lines, statement)
        source.add_names(statement, set())
        return source

    def _lambda_source(self, statement: SourceNode, function: types.FunctionType, name: str) -> DefinitionSource | None:
        lambdas = (SourceNode(statement.cell, n) for n in ast.walk(statement.node) if isinstance(n, ast.Lambda))
        origin = next((candidate for candidate in lambdas if defines(candidate, function.__code__)), None)
        if origin is None:
            return None
        assert isinstance(origin.node, ast.Lambda)
        source = DefinitionSource(f"{name} = {expression(origin)}".split("\n"), origin)
        changed = changed_defaults(origin.node.args, function, self._namespace)
        source.deferred_assignments += [(f"{name}.{attribute}", value) for attribute, value in changed]
        source.add_names(origin, set())
        return source

    def _default_edits(
        self, source: DefinitionSource, args: ast.arguments, function: types.FunctionType, name: str
    ) -> list[Edit]:
        """Edits that replace default values whose expressions have another value by now."""
        edits = []
        for index, (default, live) in enumerate(default_pairs(args, function)):
            if not unchanged(default, live, self._namespace) and unshippable_reason(live) is None:
                generated = f"_{name}_default_{index}"
                source.live_values[generated] = live
                edits.append(Edit(default, PLACEHOLDER.format(generated)))
        if len(function.__defaults__ or ()) != len(args.defaults):
            source.deferred_assignments.append((f"{name}.__defaults__", function.__defaults__))
        return edits

    # ---- functions and classes that were created in a function

    def _factory_source(
        self, statement: SourceNode, value: types.FunctionType | type, name: str
    ) -> DefinitionSource | None:
        """Source for what a function of the session created: a new function around it has its closure variables."""
        node = statement.node
        closure = closure_variables(value)
        source = DefinitionSource([], statement)
        if isinstance(node, ast.Lambda):
            body, indent, own_name = f"    return {expression(statement)}".split("\n"), "    ", ""
        else:
            edits = []
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and isinstance(value, types.FunctionType):
                edits = self._default_edits(source, node.args, value, name)
            excerpt = cut(statement, edits)
            indent = excerpt.indent
            own_name = node.name  # type: ignore[attr-defined]
            body = [*excerpt.lines, f"{indent}return {own_name}"]
        factory = f"_make_{name.lstrip('_')}"
        shared: dict[str, str] = {}
        header = [f"def {factory}():"]
        for variable, content in closure.items():
            if variable in (own_name, "__class__"):  # the factory or the class statement assigns it
                continue
            header.append(f"{indent}{variable} = None")
            if owned := self._shared_variable(source, name, value, variable):
                shared[variable] = owned
            else:
                source.deferred_assignments.append((closure_cell_expression(name, value, variable), content))
        for variable, base in self._local_bases(statement, value).items():
            if variable not in closure:
                generated = f"_{name}_{variable}"
                source.live_values[generated] = base
                header.append(f"{indent}{variable} = {PLACEHOLDER.format(generated)}")
        made = f"{factory}()"
        if shared:
            source.imports.add("from mlnb.node.data.kinds.by_value import with_variables as _with_variables")
            made = f"_with_variables({made}, {', '.join(f'{name}={cell}' for name, cell in shared.items())})"
        source.lines = [*header, *body, f"{name} = {made}"]
        source.header_lines = len(header)
        if isinstance(value, types.FunctionType):
            attributes = [(attribute, item) for attribute, item in vars(value).items() if not attribute.startswith("_")]
            source.deferred_assignments += [(f"{name}.{attribute}", item) for attribute, item in attributes]
        names = analyse(ast.Module([as_statement(node)], []))
        local = {*closure, own_name}
        source.required |= names.required - local
        source.deferred = set((names.loads | names.deferred) - source.required - local)
        source.dotted_names = set(names.dotted_names)
        return source

    def _shared_variable(
        self, source: DefinitionSource, name: str, value: types.FunctionType | type, variable: str
    ) -> str | None:
        """An expression for the variable of an earlier function, made by the same call, that this one shares."""
        for cell in closure_cells(value, variable):
            own = closure_cell_expression(name, value, variable).removesuffix(".cell_contents")
            owner, expression_ = self._cell_owners.setdefault(id(cell), (name, own))
            if owner == name:
                continue
            if isinstance(value, types.FunctionType):
                source.required.add(owner)
                return expression_
            source.notes.append(f"{owner} and {name} share the variable {variable} in the session, but not in the run")
        return None

    @staticmethod
    def _local_bases(statement: SourceNode, value: Any) -> dict[str, type]:
        """The bases of a class created in a function that were created there too."""
        if not isinstance(statement.node, ast.ClassDef):
            return {}
        pairs = zip(statement.node.bases, value.__bases__, strict=False)
        return {b.id: base for b, base in pairs if isinstance(b, ast.Name) and "<locals>" in base.__qualname__}

    # ---- classes

    def _class_source(self, statement: SourceNode, cls: type, name: str) -> DefinitionSource:
        node = statement.node
        assert isinstance(node, ast.ClassDef)
        source = DefinitionSource([], statement)
        edits = self._attribute_edits(source, node, cls, name)
        excerpt = cut(statement, edits, name)
        source.lines = excerpt.nested("if True:")
        source.header_lines = len(source.lines) - len(excerpt.lines)
        source.add_names(statement, {edit.node for edit in edits}, postponed=bool(class_flags(cls)))
        changed = changed_attributes(statement, cls, self._namespace)
        source.deferred_assignments += [(f"{name}.{attribute}", value) for attribute, value in changed]
        source.can_stay = {target for target, _ in source.deferred_assignments}
        source.caches += [(f"{name}{path}", cached) for path, cached in caches.caches_of(cls)]
        source.virtual_subclasses = [
            kind
            for kind in virtual_subclasses(cls)
            if kind.__module__ != "__main__" or self._namespace.get(kind.__name__) is kind
        ]
        for expression_, base in zip(node.bases, cls.__bases__, strict=False):
            current = evaluate(expression_, self._namespace)
            if isinstance(current, type) and current is not base and current.__name__ == base.__name__:
                base_name = base.__name__
                source.notes.append(
                    f"{name} was defined with an earlier {base_name}: the run uses the current {base_name}"
                )
        return source

    def _attribute_edits(self, source: DefinitionSource, node: ast.ClassDef, cls: type, name: str) -> list[Edit]:
        """Edits that replace class attributes whose expressions have another value by now."""
        edits = []
        for written_name, expression_ in class_attributes(node):
            attribute = mangled(written_name, cls)
            if attribute not in vars(cls) or constant(expression_) is not UNKNOWN:
                continue
            live, current = vars(cls)[attribute], evaluate(expression_, self._namespace)
            if current is not UNKNOWN and not equal(current, live) and is_plain(live):
                generated = f"_{name}_{attribute}"
                source.live_values[generated] = live
                edits.append(Edit(expression_, PLACEHOLDER.format(generated)))
        return edits
