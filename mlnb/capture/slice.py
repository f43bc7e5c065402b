"""Slice: the part of a session that a cell needs, followed from name to name through definitions and data."""

from __future__ import annotations

import builtins
import types
from collections import deque
from collections.abc import Collection
from typing import Any

from mlnb.capture.expressions import Expressions
from mlnb.capture.made_anew import MadeAnew
from mlnb.capture.reasons import Need, Reason
from mlnb.capture.references import References
from mlnb.capture.script import Statement
from mlnb.capture.session import Session
from mlnb.capture.ship import secrets, streams
from mlnb.capture.ship.checks import ShippingChecks
from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.capture.source.definition import PLACEHOLDER, DefinitionSource
from mlnb.capture.source.definitions import DefinitionFinder
from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.imports import Import, find_import, import_location, library_of
from mlnb.capture.source.introspection import is_type_hint
from mlnb.capture.source.literals import Literal, literal
from mlnb.capture.source.modules import LocalModules
from mlnb.errors import CannotShip
from mlnb.node.data import objects
from mlnb.node.data.asking import has_attribute
from mlnb.node.data.kinds import caches

DISPLAY_IMPORT = "from mlnb.node.rank.display import display"
_MODULE_NAMES = frozenset({"__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__package__", "__loader__"})


class Slice:
    """Collects what a cell needs: each needed name becomes an import, a statement or data.

    Parameters
    ----------
    session
        the session.
    history
        the source that ran in it.
    modules
        collects local modules.
    allowed
        names whose values may hold credentials, since the user has listed them (``--in``).
    assigned_first
        names that the cell has definitely assigned before any function reads them.

    Attributes
    ----------
    imports, extra_imports
        imports by the name they assign, and other import statements.
    statements
        definitions and plain values by name.
    definitions
        the source of the definitions among them.
    literals
        the plain values among them: how they are written, and the live value.
    data
        values that are sent as data, by name.
    single_stream
        all data as one stream, and the labels of its storages.
    replayed, module_values
        statements that run again, with their cells; attributes of local modules that are sent, by module.
    deferred_statements
        statements to run when every name is defined.
    dotted_names
        dotted names that the cell and the definitions read.
    reasons
        why each name is needed.
    notes
        what to tell the user.
    finder
        finds the source of definitions.
    references
        names for functions and classes.
    checks, made_anew
        refuses what can't be sent; has the run make it, where that is as good.
    """

    def __init__(
        self,
        session: Session,
        history: SourceHistory,
        modules: LocalModules,
        allowed: Collection[str] = (),
        assigned_first: Collection[str] = (),
    ) -> None:
        self.session = session
        self.imports: dict[str, Import] = {}
        self.extra_imports: set[str] = set()
        self.statements: dict[str, Statement] = {}
        self.definitions: dict[str, DefinitionSource] = {}
        self.literals: dict[str, tuple[Literal, Any]] = {}
        self.data: dict[str, Any] = {}
        self.single_stream: tuple[streams.DataStream, objects.Labels] | None = None
        self.replayed: list[tuple[str, str]] = []
        self.module_values: dict[str, list[str]] = {}
        self.deferred_statements: list[str] = []
        self.dotted_names: set[str] = set()
        self.reasons: dict[str, Reason] = {}
        self.notes: list[str] = []
        self._history = history
        self._modules = modules
        self._assigned_first = set(assigned_first)
        self._queue: deque[tuple[str, Reason, Need]] = deque()
        self.finder = DefinitionFinder(history, session.namespace)
        self.references = References(self, session, self.finder, modules)
        self.made_anew = MadeAnew(self, session, history)
        self._expressions = Expressions(self)
        self.checks = ShippingChecks(allowed, self.references.is_defined_in_script, self.made_anew.names)

    # ---- names

    def need(self, name: str, reason: Reason, how: Need = Need.REQUIRED) -> None:
        """The script needs ``name``; :meth:`resolve` will find it."""
        if name not in self.reasons:
            self.reasons[name] = reason
            self._queue.append((name, reason, how))

    def resolve(self) -> None:
        """Find every name that is needed, and the names that these need, until there is nothing new.

        Raises
        ------
        CannotShip
            if something can't be sent.
        """
        while True:
            while self._queue:
                self._resolve_name(*self._queue.popleft())
            before = self._count()
            labels = objects.Labels()
            if self.data:  # pickling the data finds the functions and classes that they refer to
                try:
                    self.single_stream = self.pickle(0, self.data, labels, self.made_anew.names), labels
                except CannotShip:
                    if not self.made_anew.make_parts():
                        raise
                    continue
            moved = self._move_shared_literals(self.single_stream[0].containers if self.single_stream else set())
            if not moved and not self._queue and before == self._count():
                return

    @property
    def has_unresolved_names(self) -> bool:
        """Whether names were added since :meth:`resolve`."""
        return bool(self._queue)

    def _count(self) -> int:
        return len(self.reasons) + len(self.data) + len(self.statements)

    def _resolve_name(self, name: str, reason: Reason, how: Need) -> None:
        if name in self.references.generated:
            return
        if not self.session.has(name):
            self._resolve_missing(name, reason, how)
            return
        try:
            self._add(name, self.session.namespace[name], reason, how)
        except CannotShip as error:
            if how is not Need.OPTIONAL:
                raise
            self.notes.append(f"{error} The cell assigns {name} itself, so the old value is not sent.")

    def _resolve_missing(self, name: str, reason: Reason, how: Need) -> None:
        """Deal with a name that the session doesn't define."""
        if name == "display" and name in self.session.extra_builtins:
            self.extra_imports.add(DISPLAY_IMPORT)
        elif name in vars(builtins) or name in _MODULE_NAMES:
            return
        elif name in self.session.namespace and name in self.session.hidden and how is not Need.OPTIONAL:
            raise CannotShip(
                f"{name}{reason} is defined by IPython and can't be sent: assign what you need from it to a variable."
            )
        elif how is Need.REQUIRED:
            advice = self.session.similar(name) or "Run the cell that defines it first."
            raise CannotShip(f"{name}{reason} is not defined in this session. {advice}")
        elif how is Need.DEFERRED:
            fails = "is not defined in this session: the run fails if it reads it."
            self.note(f"{name}{reason} {fails} {self.session.similar(name)}".rstrip())

    # ---- kinds of values

    def _add(self, name: str, value: Any, reason: Reason, how: Need) -> None:
        """Add ``name`` as an import, a definition, a literal or data."""
        if unshippable := unshippable_reason(value):
            if how is not Need.OPTIONAL and self.made_anew.make(name, value, reason):
                return
            raise CannotShip(f"{name}{reason} is {unshippable}")
        if isinstance(value, types.ModuleType):
            if not self._add_import(name, value):
                raise CannotShip(f"{name}{reason} is a module created at run time, which a run can't import.")
        elif isinstance(value, (types.FunctionType, type)):
            self._add_function_or_class(name, value, reason)
        elif self._add_library_object(name, value) or self._add_literal(name, value, reason):
            return
        elif (callable(value) or is_type_hint(value)) and (source := self.finder.by_name(name, value)) is not None:
            self.add_definition(name, source, reason)
        else:
            if how is Need.OPTIONAL and (fault := self.checks.pickling_error(value)):
                raise CannotShip(f"{name}{reason} can't be pickled ({fault}).")
            self.checks.check_name(name, value, reason)
            if isinstance(value, caches.KIND):
                self.references.keep_as_data(value)
            self.data[name] = value

    def _add_import(self, name: str, value: Any) -> bool:
        """Add an import of ``value`` as ``name``; whether it can be imported."""
        imported = find_import(name, value, self._history)
        if imported is None:
            return False
        self.imports[name] = imported
        self._modules.add(imported.module)
        return True

    def _add_library_object(self, name: str, value: Any) -> bool:
        """Add an import of what a library defines, if it holds no state of the session; whether it does so."""
        module = library_of(name, value, self._history)
        if module is not None and not self._modules.is_local(module.split(".")[0]):
            return self._add_import(name, value)
        is_stateless = callable(value) and not has_attribute(value, "__dict__")
        from_library = type(value).__module__ in ("typing", "builtins", "numpy") or import_location(value) is not None
        if not (is_stateless or from_library):
            return False
        return (callable(value) or is_type_hint(value)) and self._add_import(name, value)

    def _add_function_or_class(self, name: str, value: types.FunctionType | type, reason: Reason) -> None:
        if name == "display" and getattr(value, "__module__", "").startswith("IPython."):
            self.extra_imports.add(DISPLAY_IMPORT)
            return
        if import_location(value) is not None and self._add_import(name, value):
            return
        source = self.finder.by_name(name, value)
        own_name = value.__name__
        if source is None and own_name != name and self.session.namespace.get(own_name) is value:
            self.statements[name] = Statement(name, [f"{name} = {own_name}"], {own_name})
            self.need(own_name, Reason(reason.line, name))
            return
        source = source or self.references.source_of(name, value)
        if source is not None:
            self.add_definition(name, source, reason)
        elif not self._add_import(name, value):
            self.references.send_by_value(name, value, reason)
            self.data[name] = value

    def _add_literal(self, name: str, value: Any, reason: Reason) -> bool:
        """Add a plain value as source; whether it is one. A credential that may be sent becomes data instead."""
        if name in self.checks.allowed and self.checks.is_credential(name, value):
            return False
        written = literal(value, lambda kind: self.references.name_of(kind, Reason(reason.line, name)))
        if written is None or written.is_shadowed(self.session.namespace):
            return False
        self.checks.check(name, value, reason)
        self.literals[name] = written, value
        self.extra_imports |= written.imports
        position = -1, len(self.statements)
        self.statements[name] = Statement(name, [f"{name} = {written.text}"], written.classes, position)
        return True

    # ---- definitions

    def add_definition(self, name: str, source: DefinitionSource, reason: Reason) -> None:
        """Add a definition, and the names that it reads.

        Raises
        ------
        CannotShip
            if there is a credential in it.
        """
        self.definitions[name] = source
        self.extra_imports |= source.imports
        for note in source.notes:
            self.note(note)
        origin = source.origin
        for what, line in secrets.find_in_source(origin.node):
            raise CannotShip(
                f"line {line + origin.cell.skipped_lines} of {origin.cell.label} ({what}), which {name} needs, looks "
                "like a credential. Put it in a variable and add --in with its name, or read it from the environment "
                "(--env NAME and os.environ['NAME'])."
            )
        inner_reason = Reason(reason.line, name)
        for read in sorted(source.required):
            self.need(read, inner_reason)
        for read in sorted(source.deferred - self._assigned_first):
            self.need(read, inner_reason, Need.DEFERRED)
        for read in sorted(source.annotation_names):
            self.need(read, inner_reason, Need.OPTIONAL)
        self.dotted_names |= source.dotted_names
        lines = source.lines
        for generated, value in source.live_values.items():
            text = self._expressions.of(generated, value, inner_reason)
            if text == generated:
                source.required.add(generated)
            lines = [line.replace(PLACEHOLDER.format(generated), text) for line in lines]
        self.statements[name] = Statement(
            name, lines, set(source.required), origin.position, origin.cell.label, origin.line, source.header_lines
        )
        self._add_deferred(name, source, inner_reason)

    def _add_deferred(self, name: str, source: DefinitionSource, inner_reason: Reason) -> None:
        """Add what is done to a definition when every name is defined."""
        for index, (target, value) in enumerate(source.deferred_assignments):
            if target in source.can_stay and (fault := self.checks.pickling_error(value)):
                self.note(f"{target} is what the script makes it, since its value can't be sent ({fault})")
                continue
            text = self._expressions.of_attribute(f"_{name}_{index}", value, inner_reason)
            self.deferred_statements.append(f"{target} = {text}")
        for index, (kind, implementation) in enumerate(source.registered):
            type_name = self._expressions.of(f"_{name}_type_{index}", kind, inner_reason)
            text = self._expressions.of_attribute(f"_{name}_for_{index}", implementation, inner_reason)
            self.deferred_statements.append(f"{name}.register({type_name}, {text})")
        for index, (target, function) in enumerate(source.caches):
            self._add_cache(f"_{name}_cached_{index}", target, function)
        for index, kind in enumerate(source.virtual_subclasses):
            text = self._expressions.of_attribute(f"_{name}_sub_{index}", kind, inner_reason)
            self.deferred_statements.append(f"{name}.register({text})")

    def _add_cache(self, generated: str, target: str, function: Any) -> None:
        """Have the script fill the cache of a function, which ``target`` stands for."""
        made = caches.entries(function)
        if not made:
            return
        fault = self.checks.pickling_error(made)
        if fault is None and self.checks.is_credential(generated, made):
            fault = "it looks like a credential"
        if fault is not None:
            self.note(f"{target}: what it has cached can't be sent ({fault}), so the run calls it anew")
            return
        self.extra_imports.add("from mlnb.node.data.kinds.caches import fill as _fill_cache")
        self.data[generated] = made
        self.deferred_statements.append(f"_fill_cache({target}, {generated})")

    # ---- data

    def pickle(
        self, number: int, values: dict[str, Any], labels: objects.Labels, earlier: dict[int, str]
    ) -> streams.DataStream:
        """Pickle values as stream ``number``; see :func:`streams.write` for ``labels`` and ``earlier``.

        Raises
        ------
        CannotShip
            if one of them can't be pickled, or holds a credential.
        """
        current = next(iter(values))

        def check(name: str, obj: Any) -> None:
            nonlocal current
            current = name
            self.checks.check_object(name, obj)

        def reference(obj: Any) -> str | None:
            line = self.reasons[current].line if current in self.reasons else None
            return self.references.reference(obj, Reason(line, current))

        try:
            return streams.write(number, values, labels, reference, check, earlier)
        except CannotShip:
            raise
        except Exception as error:  # pickling runs the objects' own code
            raise self.checks.explain(values, current, error, self.reasons, self._display_name) from error

    def _display_name(self, name: str) -> str:
        """What to call ``name`` in a message: a generated name goes by the definition that holds the value."""
        reason = self.reasons.get(name, Reason(None))
        return name if self.session.has(name) or reason.through is None else reason.through

    def _move_shared_literals(self, in_data: set[int]) -> bool:
        """Make literals whose containers other values hold too into data, so that they stay shared; whether any were.

        Parameters
        ----------
        in_data
            ``id`` of the containers in the data.
        """
        owners: dict[int, list[str]] = {}
        for name, (written, _) in self.literals.items():
            for container in written.containers:
                owners.setdefault(container, []).append(name)
        shared = {
            name for container, names in owners.items() if len(names) > 1 or container in in_data for name in names
        }
        for name in sorted(shared):
            _, value = self.literals.pop(name)
            del self.statements[name]
            self.data[name] = value
        return bool(shared)

    def note(self, note: str) -> None:
        """Tell the user something, once."""
        if note not in self.notes:
            self.notes.append(note)
