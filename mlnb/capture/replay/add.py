"""Adds to a slice the session's statements that have changed what the cell uses."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from mlnb.capture.cell.reading import CellSource
from mlnb.capture.reasons import Need, Reason
from mlnb.capture.replay.libraries import imported_names, imports_for_effect, is_used
from mlnb.capture.replay.module_values import changed_values, local_modules
from mlnb.capture.replay.registrations import from_first_decorator, registrations
from mlnb.capture.replay.statements import Effect, EffectFinder, is_setting
from mlnb.capture.script import Statement
from mlnb.capture.ship import secrets
from mlnb.capture.slice import Slice
from mlnb.capture.source.definition import names_of
from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.imports import Import, resolve
from mlnb.capture.source.literals import literal
from mlnb.capture.source.modules import LocalModules, imported_roots
from mlnb.capture.source.nodes import Cell, DefNode, SourceNode
from mlnb.errors import CannotShip
from mlnb.node.data import objects
from mlnb.node.script.module_values import NAME, ModuleValues, set_module_values


def add_replayed(slice_: Slice, history: SourceHistory, modules: LocalModules, source: CellSource) -> None:
    """Add the session's statements that have changed libraries that the cell uses, and imports for their effect.

    A statement that needs what can't be sent is left out, with a note.
    """
    replay = Replay(slice_, history)
    used = libraries(slice_, modules, source)
    read = source.names.loads.union(*(_names_read(cell.text) for cell in replay.cells))
    for cell, statement, alias in imports_for_effect(history, used, read, modules):
        replay.add_import(cell, statement, alias, modules)
    used |= modules.roots
    imported = imported_names(history, slice_.session.namespace)
    finder = EffectFinder(slice_.session.namespace, imported)
    for effect in finder.find(replay.cells):
        if effect.target is not None and all(map(modules.is_local, effect.libraries)):
            replay.assigned.add(effect.target)
        elif any(is_used(library, used) for library in effect.libraries):
            replay.add(effect)
    if slice_.has_unresolved_names:
        slice_.resolve()  # what is registered on these counts, too
    for effect in registrations(slice_, history, modules, replay.cells):
        replay.add(effect)
    slice_.resolve()
    assigned = list(_attributes(replay.assigned, slice_.session.namespace))
    add_module_values(slice_, modules, assigned, imported, source.tree)
    replay.defer_those_with_data()


def _attributes(targets: Iterable[ast.expr], namespace: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The attributes of modules and classes among assignments' targets: module and dotted attribute."""
    for target in targets:
        if isinstance(target, ast.Attribute):
            with contextlib.suppress(Exception):  # code of the session's objects
                owner = _evaluate(target.value, namespace)
                if isinstance(owner, types.ModuleType):
                    yield owner.__name__, target.attr
                elif isinstance(owner, type):
                    yield owner.__module__, f"{owner.__qualname__}.{target.attr}"


def add_module_values(
    slice_: Slice,
    modules: LocalModules,
    assigned: Collection[tuple[str, str]],
    imported_from: Mapping[str, str],
    cell: ast.Module,
) -> None:
    """Send what the attributes of local modules are now, where the source says otherwise.

    An object that the session has imported from a library, and that is sent, is the library's attribute there, too.
    """
    imported = {item.module for item in slice_.imports.values()}
    imported |= {f"{item.module}.{item.attribute}" for item in slice_.imports.values()}
    for node in cell.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module_name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            imported |= {module_name} | {f"{module_name}.{alias.name}".lstrip(".") for alias in node.names}
    values: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    for module in local_modules(modules):
        paths = {path for name, path in assigned if name == module.__name__}
        changed = {}
        for path, value in changed_values(module, paths):
            try:
                slice_.pickle(0, {NAME: value}, objects.Labels(), {})
            except CannotShip as error:
                if path in paths:
                    slice_.note(f"{module.__name__}.{path} is in the run what the module's source says: {error}")
                continue
            changed[path] = value
        if changed or module.__name__ in imported:
            values[module.__name__] = changed
        else:
            others.append(module.__name__)
        if changed:
            slice_.module_values[module.__name__] = list(changed)
    for name, library in imported_from.items():
        value = slice_.data.get(name)
        if value is not None and not modules.is_local(library.split(".")[0]) and resolve(library, name) is value:
            values.setdefault(library, {})[name] = value
    if values or others:
        slice_.data[NAME] = values
        slice_.extra_imports.add(f"from {ModuleValues.__module__} import {set_module_values.__name__}")
        arguments = ", ".join([NAME, *map(repr, sorted(others))])
        slice_.deferred_statements.insert(0, f"{set_module_values.__name__}({arguments})")
        slice_.resolve()


def libraries(slice_: Slice, modules: LocalModules, source: CellSource) -> set[str]:
    """The top-level modules that the cell, or what it needs, uses."""
    used = {imported.module.split(".")[0] for imported in slice_.imports.values()} | imported_roots(source.tree)
    for definition in slice_.definitions.values():
        used |= imported_roots(definition.origin.node)
    return used | modules.roots | slice_.checks.libraries


@functools.lru_cache(maxsize=2048)
def _names_read(text: str) -> frozenset[str]:
    """The names that a cell reads, in its functions too."""
    nodes = ast.walk(ast.parse(text))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


class Replay:
    """Adds statements of the session to a slice.

    Attributes
    ----------
    cells
        the cells that have run before the one that is captured.
    assigned
        targets of assignments to attributes of local modules.
    """

    def __init__(self, slice_: Slice, history: SourceHistory) -> None:
        self._slice, self._session = slice_, slice_.session
        newest = len(self._session.history) - 1
        is_running = newest > 0 and "run_cell_magic('train'" in self._session.history[newest]
        self.cells = [cell for cell in history.cells if 0 < cell.order < newest + (not is_running)]
        self.assigned: set[ast.expr] = set()
        self._added: list[str] = []
        self._seen: list[ast.stmt] = []

    def add_import(
        self, cell: Cell, node: ast.Import | ast.ImportFrom, alias: ast.alias, modules: LocalModules
    ) -> None:
        """Add an import for its effect."""
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        try:
            modules.add(module)
        except CannotShip as error:
            self._slice.note(str(error))
            return
        name = alias.asname or alias.name.split(".")[0]
        attribute = None if isinstance(node, ast.Import) else alias.name
        key = name if name not in self._slice.imports else f"{name}: {module}"
        self._slice.imports.setdefault(key, Import(module, attribute, name, SourceNode(cell, node).position))
        self._slice.reasons.setdefault(name, Reason(None))

    def add(self, effect: Effect) -> None:
        """Add a statement, once. With a target that can be evaluated, it assigns what the target has now.

        A definition that the session still has is defined in the script as others are, with its decorators.
        """
        if any(effect.node is node for node in self._seen):
            return
        self._seen.append(effect.node)
        if isinstance(effect.node, DefNode):
            self._add_definition(effect.cell, effect.node)
            return
        text, node = self._live_assignment(effect)
        if text is None:
            text = ast.get_source_segment(effect.cell.text, effect.node) or ast.unparse(effect.node)
        self._add(effect.cell, node, text, f"{effect.cell.label}: {_short(text)}")

    def _add_definition(self, cell: Cell, node: DefNode) -> None:
        name = node.name
        found = self._session.has(name) and self._slice.finder.by_name(name, self._session.namespace[name])
        if found and found.origin.position == SourceNode(cell, node).position:
            self._slice.need(name, Reason(None, f"@{ast.unparse(node.decorator_list[0])}"))
            return
        moved = from_first_decorator(node)
        text = ast.get_source_segment(cell.text, moved) or ast.unparse(moved)
        self._add(cell, moved, text, f"{cell.label}: {_short(text)}")

    def _add(self, cell: Cell, node: ast.stmt, text: str, described: str) -> None:
        names = names_of(node)
        if secrets.find_in_source(node):
            self._slice.note(f"{described}: not repeated in the run, since it seems to hold a credential")
            return
        needed = sorted(name for name in names.loads if name not in names.stores)
        for name in needed:
            fault = self._fault(name)
            if fault is not None and not self._make_anew(name):
                self._slice.note(f"{described}: not repeated in the run, since {name} {fault}")
                return
        key = f"#{len(self._added)}"
        source = SourceNode(cell, node)
        required = {name for name in needed if name not in vars(builtins)}
        lines = text.split("\n")
        self._slice.statements[key] = Statement(key, lines, required, source.position, cell.label, source.line)
        self._slice.replayed.append((cell.label, _short(text)))
        self._added.append(key)
        for name in required:
            self._slice.need(name, Reason(None, _short(text)))
        for name in sorted(names.deferred - names.loads - names.stores):
            self._slice.need(name, Reason(None, _short(text)), Need.DEFERRED)

    def _fault(self, name: str) -> str | None:
        """Why ``name`` can't be sent; ``None`` if it can."""
        if name in self._slice.reasons or name in vars(builtins):
            return None
        if not self._session.has(name):
            return "is not defined"
        value = self._session.namespace[name]
        try:
            return self._fault_of(value)
        except Exception as error:  # noqa: BLE001 - code of the session's objects
            return f"can't be looked into ({type(error).__name__})"

    def _fault_of(self, value: Any) -> str | None:
        """Why a value can't be sent; ``None`` if it can."""
        if callable(value) or hasattr(value, "__path__") or hasattr(value, "__spec__") or literal(value) is not None:
            return None
        fault = self._slice.checks.pickling_error(value)
        return None if fault is None else f"can't be sent ({fault})"

    def _make_anew(self, name: str) -> bool:
        """Add the plain line that made ``name``, as ``handler = logging.StreamHandler()``; whether there is one."""
        for cell in reversed(self.cells):
            for node in reversed(cell.tree.body):
                is_made = isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and len(node.targets) == 1
                if not is_made or getattr(node.targets[0], "id", None) != name:  # type: ignore[attr-defined]
                    continue
                others = {read for read in names_of(node).loads if self._fault(read)}
                if others:
                    return False
                source, text = SourceNode(cell, node), ast.get_source_segment(cell.text, node) or ast.unparse(node)
                self._slice.reasons[name] = Reason(None)
                required = {read for read in names_of(node).loads if read not in vars(builtins)}
                lines = text.split("\n")
                statement = Statement(name, lines, required, source.position, cell.label, source.line)
                self._slice.statements[name] = statement
                self._slice.replayed.append((cell.label, _short(text)))
                for read in required:
                    self._slice.need(read, Reason(None, name))
                self._add_settings_of(name)
                return True
        return False

    def _add_settings_of(self, name: str) -> None:
        """Add the statements that set something of ``name``, as ``handler.setLevel(…)``."""
        for cell in self.cells:
            for node in cell.tree.body:
                call = node.value if isinstance(node, ast.Expr) else None
                function = call.func if isinstance(call, ast.Call) else None
                is_its = isinstance(function, ast.Attribute) and getattr(function.value, "id", None) == name
                if is_its and is_setting(function.attr):  # type: ignore[union-attr]
                    self.add(Effect(cell, node, frozenset()))

    def _live_assignment(self, effect: Effect) -> tuple[str | None, ast.stmt]:
        """A statement that assigns to the effect's target what it has now, if this can be written."""
        if effect.target is None:
            return None, effect.node
        try:
            value = _evaluate(effect.target, self._session.namespace)
        except Exception:  # noqa: BLE001 - code of the session's objects
            return None, effect.node
        written = literal(value)
        if written is None or written.imports or written.library_names:
            return None, effect.node
        text = f"{ast.unparse(effect.target)} = {written.text}"
        node = ast.parse(text).body[0]
        for part in ast.walk(node):
            ast.copy_location(part, effect.node)
        return text, node

    def defer_those_with_data(self) -> None:
        """Let the statements that need data run after all data is loaded, so that this stays one stream."""
        data = set(self._slice.data)
        waiting: set[str] = set()
        for key in [*self._added]:
            statement = self._slice.statements[key]
            if statement.required & (data | waiting):
                del self._slice.statements[key]
                waiting.add(key)
                self._slice.deferred_statements += ["\n".join(statement.lines)]


def _evaluate(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    """The value of names, attributes and items with constant keys."""
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_evaluate(node.value, namespace), node.attr)
    if isinstance(node, ast.Subscript):
        return _evaluate(node.value, namespace)[ast.literal_eval(node.slice)]
    raise ValueError(ast.dump(node))


def _short(text: str) -> str:
    line = text.split("\n")[0]
    return line if line == text and len(line) <= 60 else f"{line[:57]}..."
