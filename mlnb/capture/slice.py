"""The slice of a session that a cell needs: name by name, through definitions and data."""

from __future__ import annotations

import builtins
import difflib
import types
import typing
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from mlnb.capture.reasons import Reason
from mlnb.capture.references import References
from mlnb.capture.script import Part
from mlnb.capture.session import Session
from mlnb.capture.ship import refusals, secrets, streams
from mlnb.capture.ship.checks import Guard
from mlnb.capture.source import imports
from mlnb.capture.source.definition import LIVE, Source
from mlnb.capture.source.definitions import Definitions
from mlnb.capture.source.history import Sources
from mlnb.capture.source.imports import Import
from mlnb.capture.source.literals import Literal, literal
from mlnb.capture.source.modules import LocalModules
from mlnb.errors import CannotShip
from mlnb.node.data import objects

SHOW = "from mlnb.node.rank.display import display"


class Slice:
    """Collects what a cell needs.

    Parameters
    ----------
    session
        where it is found.
    sources
        what ran there.
    modules
        takes local modules along.
    allowed
        names whose values may hold credentials, since the person has named them.
    covered
        names that the cell itself has surely bound before any function reads them.

    Attributes
    ----------
    imports, lines
        import lines by the name they bind, and other import statements.
    parts
        definitions and plain values by name.
    data
        values that go as data by name.
    reasons
        why each name is needed.
    references
        by which names the script knows functions and classes.
    guard
        refuses what can't go along.
    whole
        all data as one stream, and the labels of its storages.
    late
        statements to run when every name is bound.
    """

    def __init__(
        self,
        session: Session,
        sources: Sources,
        modules: LocalModules,
        allowed: Collection[str] = (),
        covered: Collection[str] = (),
    ) -> None:
        self.session = session
        self.modules = modules
        self.definitions = Definitions(sources, session.namespace)
        self.sources = sources
        self.imports: dict[str, Import] = {}
        self.lines: set[str] = set()
        self.parts: dict[str, Part] = {}
        self.data: dict[str, Any] = {}
        self.reasons: dict[str, Reason] = {}
        self.late: list[str] = []
        self.notes: list[str] = []
        self.chains: set[str] = set()
        self.found: dict[str, Source] = {}
        self.literals: dict[str, tuple[Literal, Any]] = {}
        self._covered = set(covered)
        self._queue: deque[tuple[str, Reason, str]] = deque()
        self.references = References(self, session, self.definitions, modules)
        self.whole: tuple[streams.DataStream, objects.Labels] | None = None
        self.guard = Guard(allowed, self.references.known)

    # ---- names

    def need(self, name: str, reason: Reason, how: str = "surely") -> None:
        """The script needs ``name``.

        Parameters
        ----------
        how
            ``surely``; ``later``, by a function that may never be called; ``perhaps``, unless the cell binds it.
        """
        if name not in self.reasons:
            self.reasons[name] = reason
            self._queue.append((name, reason, how))

    def settle(self) -> None:
        """Follow everything that is needed, until nothing new is found.

        Raises
        ------
        CannotShip
            if something can't go along.
        """
        while True:
            while self._queue:
                self._take(*self._queue.popleft())
            known = len(self.reasons) + len(self.data) + len(self.parts)
            labels = objects.Labels()
            if self.data:
                self.whole = self.stream(0, self.data, labels, {}), labels
            moved = self._shared(self.whole[0].containers if self.whole else set())
            if not moved and not self._queue and known == len(self.reasons) + len(self.data) + len(self.parts):
                return

    def _take(self, name: str, reason: Reason, how: str) -> None:
        if name in self.references.bindings:
            return
        if not self.session.has(name):
            self._missing(name, reason, how)
            return
        value = self.session.namespace[name]
        try:
            self._classify(name, value, reason, how)
        except CannotShip as error:
            if how != "perhaps":
                raise
            self.notes.append(f"{error} The cell binds {name} itself, so it goes without it.")

    def _missing(self, name: str, reason: Reason, how: str) -> None:
        if name == "display" and name in self.session.extra:
            self.lines.add(SHOW)
        elif name in vars(builtins) or name in _MODULE_NAMES:
            return
        elif name in self.session.namespace and name in self.session.hidden and how != "perhaps":
            raise CannotShip(f"{name}{reason} is IPython's own: keep what you need of it in a variable.")
        elif how == "surely":
            near = difflib.get_close_matches(name, [n for n in self.session.namespace if self.session.has(n)], n=1)
            meant = f" Did you mean {near[0]}?" if near else " Run the cell that defines it first."
            raise CannotShip(f"{name}{reason} is not defined in this session.{meant}")
        elif how == "later":
            self.notes.append(f"{name}{reason} is not defined in this session: it fails if it comes to that")

    # ---- kinds of values

    def _classify(self, name: str, value: Any, reason: Reason, how: str) -> None:
        refused = refusals.why_not(value)
        if refused:
            raise CannotShip(f"{name}{reason} is {refused[0]}, which can't go to another machine: {refused[1]}.")
        if isinstance(value, types.ModuleType):
            self._import(name, value, reason)
        elif isinstance(value, (types.FunctionType, type)):
            self._code(name, value, reason)
        elif self._value(name, value, reason) or self._imported_thing(name, value):
            return
        elif callable(value) and (source := self.definitions.statement(name, value)) is not None:
            self.add(name, source, reason)
        else:
            if how == "perhaps" and (fault := self.guard.fault(value)):
                raise CannotShip(f"{name}{reason} can't be pickled ({fault}).")
            self.guard.check_name(name, value, reason)
            self.data[name] = value

    def _import(self, name: str, value: types.ModuleType, reason: Reason) -> None:
        found = imports.find(name, value, self.sources)
        if found is None:
            raise CannotShip(f"{name}{reason} is a module made by hand, which can't be imported on another machine.")
        self.imports[name] = found
        self.modules.need(found.module)

    def _imported_thing(self, name: str, value: Any) -> bool:
        """Import what a library defines and what has no state of the session's."""
        stateless = callable(value) and not hasattr(value, "__dict__")
        if not (stateless or type(value).__module__ in ("typing", "builtins", "numpy") or imports.where(value)):
            return False
        found = imports.find(name, value, self.sources) if callable(value) or _typing(value) else None
        if found is None:
            return False
        self.imports[name] = found
        self.modules.need(found.module)
        return True

    def _code(self, name: str, value: types.FunctionType | type, reason: Reason) -> None:
        if name == "display" and getattr(value, "__module__", "").startswith("IPython."):
            self.lines.add(SHOW)
            return
        if imports.where(value) is not None:
            found = imports.find(name, value, self.sources)
            if found is not None:
                self.imports[name] = found
                self.modules.need(found.module)
                return
        source = self.definitions.statement(name, value)
        own = value.__name__
        if source is None and own != name and self.session.namespace.get(own) is value:
            self.parts[name] = Part(name, [f"{name} = {own}"], {own})
            self.need(own, Reason(reason.line, name))
            return
        source = source or self.references.source(name, value)
        if source is None:
            found = imports.find(name, value, self.sources)
            if found is None:
                raise CannotShip(
                    f"{name}{reason} has no source that can be found: define it in a cell of the notebook."
                )
            self.imports[name] = found
            self.modules.need(found.module)
            return
        self.add(name, source, reason)

    def _value(self, name: str, value: Any, reason: Reason) -> bool:
        """Write a plain value as source; a credential that may go along goes as data, since scripts are read."""
        if name in self.guard.allowed and self.guard.is_credential(name, value):
            return False
        written = literal(value, lambda kind: self.references.name_for(kind, Reason(reason.line, name)))
        if written is None or any(builtin in self.session.namespace for builtin in _plain_names(written)):
            return False
        self.guard.check(name, value, reason)
        self.literals[name] = written, value
        self.lines |= written.imports
        needed = {n for n in written.names if n in self.reasons or n in self.references.bindings}
        self.parts[name] = Part(name, [f"{name} = {written.text}"], needed, (-1, len(self.parts)))
        return True

    # ---- definitions

    def add(self, name: str, source: Source, reason: Reason) -> None:
        """Take a definition along, with what it reads."""
        self.found[name] = source
        for note in source.notes:
            self.note(note)
        for what, line in secrets.in_source(source.found.node):
            raise CannotShip(
                f"line {line + source.found.cell.skipped} of {source.found.cell.label} ({what}), which {name} "
                "needs, looks like a credential. Put it in a variable and name that with --in, or read it from the "
                "environment (--env NAME and os.environ['NAME'])."
            )
        through = Reason(reason.line, name)
        for wanted in sorted(source.eager):
            self.need(wanted, through)
        for wanted in sorted(source.later - self._covered):
            self.need(wanted, through, "later")
        for wanted in sorted(source.hints):
            self.need(wanted, through, "perhaps")
        self.chains |= source.chains
        lines = source.lines
        for generated, value in source.live.items():
            text = self._text(generated, value, through)
            if text == generated:
                source.eager.add(generated)
            lines = [line.replace(LIVE.format(generated), text) for line in lines]
        cell = source.found.cell
        self.parts[name] = Part(
            name, lines, set(source.eager), source.found.position, cell.label, source.found.line, source.lead
        )
        for index, (target, value) in enumerate(source.late):
            self.late.append(f"{target} = {self._late(f'_{name}_{index}', value, through)}")

    def _late(self, generated: str, value: Any, reason: Reason) -> str:
        for wrapper in (staticmethod, classmethod):
            if isinstance(value, wrapper):
                return f"{wrapper.__name__}({self._late(generated, value.__func__, reason)})"
        if isinstance(value, property):
            parts = [
                self._late(f"{generated}{i}", f, reason) for i, f in enumerate((value.fget, value.fset, value.fdel))
            ]
            return f"property({', '.join(parts)})"
        return self._text(generated, value, reason, anew=True)

    def _text(self, generated: str, value: Any, reason: Reason, *, anew: bool = False) -> str:
        """An expression for a live value that has no name of its own; ``generated`` if it becomes data.

        Parameters
        ----------
        anew
            whether a function must not be found where a class holds it, since that is what is to be set.
        """
        if isinstance(value, (types.FunctionType, type)):
            name = self.references.name_for(value, reason, anew=anew)
            if name is not None:
                return name
        for name in self.references.named().get(id(value), []):
            if type(value) not in (*streams.PLAIN, str, bytes):
                self.need(name, reason)
                return name
        self.guard.check_name(generated, value, reason)
        if (written := literal(value)) is not None and not written.parts:
            self.guard.check(generated, value, reason)
            self.lines |= written.imports
            return written.text
        refused = refusals.why_not(value)
        if refused:
            holder = f"{reason.through}{Reason(reason.line)}"
            raise CannotShip(f"{holder} holds {refused[0]}, which can't go to another machine: {refused[1]}.")
        self.data[generated] = value
        return generated

    # ---- data

    def stream(
        self, number: int, values: dict[str, Any], labels: objects.Labels, earlier: dict[int, str]
    ) -> streams.DataStream:
        """Write values as stream ``number``.

        Raises
        ------
        CannotShip
            if one of them can't be pickled, or holds a credential.
        """
        current = next(iter(values))

        def look(name: str, obj: Any) -> None:
            nonlocal current
            current = name
            self.guard.look(name, obj)

        def reference(obj: Any) -> str | None:
            line = self.reasons[current].line if current in self.reasons else None
            return self.references.reference(obj, Reason(line, current))

        try:
            return streams.write(number, values, labels, reference, look, earlier)
        except CannotShip:
            raise
        except Exception as error:  # pickling runs the objects' own code
            raise self.guard.explain(values, current, error, self.reasons, self._shown) from error

    def _shown(self, name: str) -> str:
        """How a person knows ``name``: what is generated goes by what holds it."""
        reason = self.reasons.get(name, Reason(None))
        return name if self.session.has(name) or reason.through is None else reason.through

    def _shared(self, seen: set[int]) -> bool:
        """Make data of containers written as source that other values hold too; whether there were any."""
        owners: dict[int, list[str]] = {}
        for name, (written, _) in self.literals.items():
            for part in written.parts:
                owners.setdefault(part, []).append(name)
        moved = {name for part, names in owners.items() if len(names) > 1 or part in seen for name in names}
        for name in sorted(moved):
            _, value = self.literals.pop(name)
            del self.parts[name]
            self.data[name] = value
        return bool(moved)

    def note(self, note: str) -> None:
        """Tell the person something, once."""
        if note not in self.notes:
            self.notes.append(note)


_MODULE_NAMES = frozenset({"__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__package__", "__loader__"})


def _typing(value: Any) -> bool:
    return type(value).__module__ == "typing" or isinstance(value, (typing.TypeVar, types.GenericAlias))


def _plain_names(written: Literal) -> Iterable[str]:
    """Built-in names that a literal relies on."""
    return written.names & vars(builtins).keys()
