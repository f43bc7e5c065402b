"""The slice of a session that a cell needs: name by name, through definitions and data."""

from __future__ import annotations

import builtins
import difflib
import re
import types
import typing
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from mlnb.capture import imports, refusals, secrets, streams
from mlnb.capture.definitions import Definitions
from mlnb.capture.imports import Import
from mlnb.capture.literals import MUTABLE, Literal, literal
from mlnb.capture.live import is_ours
from mlnb.capture.modules import LocalModules
from mlnb.capture.script import Part
from mlnb.capture.session import Session
from mlnb.capture.source import LIVE, Source
from mlnb.capture.sources import Sources
from mlnb.errors import CannotShip
from mlnb.node import objects

SHOW = "from mlnb.node.show import display"

_PLAIN = frozenset({int, float, complex, bool, type(None), type(...)})


@dataclass(frozen=True)
class Reason:
    """Why a name is needed: the cell's line that reads it, and through which of the session's names."""

    line: int | None
    through: str | None = None

    def __str__(self) -> str:
        words = [f"line {self.line}"] if self.line else []
        words += [f"through {self.through}"] if self.through else []
        return f" ({', '.join(words)})" if words else ""


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
    bindings
        functions and classes by names that only the script has.
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
        self.bindings: dict[str, Any] = {}
        self.late: list[str] = []
        self.notes: list[str] = []
        self.chains: set[str] = set()
        self.found: dict[str, Source] = {}
        self.literals: dict[str, tuple[Literal, Any]] = {}
        self._allowed = set(allowed)
        self._covered = set(covered)
        self._queue: deque[tuple[str, Reason, str]] = deque()
        self._generated: dict[int, str] = {}
        self._harmless: dict[type, bool] = {}
        self._names: dict[int, list[str]] | None = None

    # ---- names

    def need(self, name: str, reason: Reason, how: str = "surely") -> None:
        """The script needs ``name``.

        Parameters
        ----------
        how
            ``surely``; ``later``, by a function that may never be called; ``perhaps``, if the cell hasn't bound it.
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
        labels = objects.Labels()
        while True:
            while self._queue:
                self._take(*self._queue.popleft())
            known = len(self.reasons) + len(self.data) + len(self.parts)
            seen: set[int] = set()
            if self.data:
                _, seen = self.stream(0, self.data, labels, {})
            moved = self._shared(seen)
            if not moved and not self._queue and known == len(self.reasons) + len(self.data) + len(self.parts):
                return

    def _take(self, name: str, reason: Reason, how: str) -> None:
        if name in self.bindings:
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
        if name == "display" or (name in self.session.extra and name == "display"):
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
            if how == "perhaps" and (fault := self._fault(value)):
                raise CannotShip(f"{name}{reason} can't be pickled ({fault}).")
            self._check(name, value, reason)
            self.data[name] = value

    def _import(self, name: str, value: types.ModuleType, reason: Reason) -> None:
        found = imports.find(name, value, self.sources)
        if found is None:
            raise CannotShip(
                f"{name}{reason} is a module made by hand, which can't be imported on another machine."
            )
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
        source = source or self._source(name, value)
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

    def _source(self, name: str, value: types.FunctionType | type) -> Source | None:
        ours = isinstance(value, type) and value.__module__ == "__main__"
        if isinstance(value, types.FunctionType):
            ours = is_ours(value)
            return self.definitions.function(name, value) if ours else None
        return self.definitions.cls(name, value) if ours else None

    def _value(self, name: str, value: Any, reason: Reason) -> bool:
        """Write a plain value as source; a credential that may go along goes as data, since scripts are read."""
        if name in self._allowed and self._is_credential(name, value):
            return False
        written = literal(value, lambda kind: self._name_for(kind, Reason(reason.line, name)))
        if written is None or any(builtin in self.session.namespace for builtin in _plain_names(written)):
            return False
        self._check(name, value, reason)
        self.literals[name] = written, value
        self.lines |= written.imports
        needed = {n for n in written.names if n in self.reasons or n in self.bindings}
        self.parts[name] = Part(name, [f"{name} = {written.text}"], needed, (-1, len(self.parts)))
        return True

    # ---- definitions

    def add(self, name: str, source: Source, reason: Reason) -> None:
        """Take a definition along, with what it reads."""
        self.found[name] = source
        for note in source.notes:
            self._note(note)
        for what, line in secrets.in_source(source.found.node):
            raise CannotShip(
                f"line {line + source.found.cell.skipped} of {source.found.cell.label} ({what}), which {name} needs, "
                "looks like a credential. Put it in a variable and name that with --in, or read it from the "
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
                self._late(f"{generated}{i}", f, reason)
                for i, f in enumerate((value.fget, value.fset, value.fdel))
            ]
            return f"property({', '.join(parts)})"
        return self._text(generated, value, reason)

    def _text(self, generated: str, value: Any, reason: Reason) -> str:
        """An expression for a live value that has no name of its own; ``generated`` if it becomes data."""
        if isinstance(value, (types.FunctionType, type)) and (name := self._name_for(value, reason)):
            return name
        for name in self._named().get(id(value), []):
            if not isinstance(value, (*_PLAIN, str, bytes)):
                self.need(name, reason)
                return name
        self._check(generated, value, reason)
        if (written := literal(value)) is not None and not written.parts:
            self.lines |= written.imports
            return written.text
        refused = refusals.why_not(value)
        if refused:
            raise CannotShip(
                f"{reason.through}{Reason(reason.line)} holds {refused[0]}, which can't go to another machine: {refused[1]}."
            )
        self.data[generated] = value
        return generated

    def _name_for(self, value: Any, reason: Reason) -> str | None:
        """By which name the script knows a function or class."""
        if imports.where(value) is None:
            return self.reference(value, reason)
        for name in self._named().get(id(value), []):
            self.need(name, reason)
            return name
        module, qualname = imports.where(value) or ("", "")
        root = qualname.split(".")[0]
        name = f"_{root}"
        self.imports[name] = Import(module, root, name)
        self.modules.need(module)
        return ".".join([name, *qualname.split(".")[1:]])

    def reference(self, value: Any, reason: Reason) -> str | None:
        """The name by which what the notebook defines is known in the script; ``None`` for anything else."""
        if id(value) in self._generated:
            return self._generated[id(value)]
        ours = getattr(value, "__module__", None) == "__main__"
        ours = ours or (isinstance(value, types.FunctionType) and is_ours(value))
        names = self._named().get(id(value), [])
        if names and (ours or imports.where(value) is None):
            name = value.__name__ if value.__name__ in names else names[0]
            self.need(name, reason)
            return name
        if not ours:
            self.modules.need(getattr(value, "__module__", None) or "")
            return None
        return self._dotted(value, reason) or self._generate(value, reason) or self._renewed(value, reason)

    def _dotted(self, value: Any, reason: Reason) -> str | None:
        """The qualified name of what a live class holds."""
        root, *parts = value.__qualname__.split(".")
        found = self.session.namespace.get(root)
        for part in parts:
            found = getattr(found, part, None) if isinstance(found, type) else None
        if found is None or found is not value:
            return None
        self.need(root, reason)
        return str(value.__qualname__)

    def _renewed(self, value: Any, reason: Reason) -> str:
        """The name of the present definition of what ``value`` is an earlier definition of."""
        name = value.__qualname__
        root = name.split(".")[0]
        if not self.session.has(root) or "<locals>" in name:
            raise CannotShip(
                f"{reason.through or name}{Reason(reason.line)} needs {name}, whose source can't be found: "
                "define it in a cell of the notebook."
            )
        self.need(root, reason)
        return str(name)

    def _generate(self, value: Any, reason: Reason) -> str | None:
        """Define what has no name in the session under one made for the script."""
        live = self.session.namespace.get(value.__name__)
        if isinstance(value, type) and isinstance(live, type) and live.__qualname__ == value.__qualname__:
            self._note(
                f"{reason.through} was made by an earlier definition of {value.__name__}: it goes with the present one"
            )
            return self._renewed(value, reason)
        base = "lambda" if value.__name__ == "<lambda>" else value.__name__.lstrip("_")
        number = 1
        while (name := f"_{base}_{number}") in self.bindings or name in self.session.namespace:
            number += 1
        source = self._source(name, value) or self.definitions.statement(value.__name__, value, name)
        if source is None:
            return None
        self.bindings[name] = value
        self._generated[id(value)] = name
        self.reasons[name] = reason
        self.add(name, source, reason)
        return name

    def _named(self) -> dict[int, list[str]]:
        """``id`` → the session's names of it."""
        if self._names is None:
            self._names = {}
            for name, value in self.session.namespace.items():
                if self.session.has(name):
                    self._names.setdefault(id(value), []).append(name)
        return self._names

    # ---- data

    def stream(
        self, number: int, values: dict[str, Any], labels: objects.Labels, earlier: dict[int, str]
    ) -> tuple[streams.DataStream, set[int]]:
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
            if type(obj) not in _PLAIN:
                self._look(name, obj)

        def reference(obj: Any) -> str | None:
            return self.reference(obj, Reason(self._reason(current).line, current))

        try:
            return streams.write(number, values, labels, reference, look, earlier)
        except CannotShip:
            raise
        except Exception as error:  # pickling runs the objects' own code
            raise self._explain(values, current, error) from error

    def _reason(self, name: str) -> Reason:
        return self.reasons.get(name, Reason(None))

    def _look(self, name: str, obj: Any) -> None:
        kind = type(obj)
        if kind not in self._harmless:
            self._harmless[kind] = refusals.why_not(obj) is None
        if not self._harmless[kind]:
            raise TypeError(f"{kind.__name__} can't go to another machine")
        if name in self._allowed:
            return
        if (isinstance(obj, (str, bytes)) and secrets.looks_secret(obj)) or secrets.in_mapping(obj) is not None:
            raise _Credential(name)

    def _explain(self, values: dict[str, Any], name: str, error: Exception) -> CannotShip:
        if not isinstance(error, _Credential):
            faulty = [name, *(other for other in values if other != name)]
            name = next((other for other in faulty if self._fault(values[other])), name)
        value = values[name]
        shown = self._shown(name)
        if isinstance(error, _Credential):
            return self._credential(self._credential_in(value, shown), name)
        path, inner = refusals.locate(value, shown, lambda part: self._fault(part) is None)
        reason = self._reason(name)
        refused = refusals.why_not(inner)
        if refused:
            return CannotShip(f"{path}{reason} is {refused[0]}, which can't go to another machine: {refused[1]}.")
        why = str(error).split("\n")[0] or type(error).__name__
        return CannotShip(
            f"{path}{reason} ({type(inner).__name__}) can't go to another machine: {why}. Make it inside the cell."
        )

    def _shown(self, name: str) -> str:
        """How a person knows ``name``: what is generated goes by what holds it."""
        reason = self._reason(name)
        return name if self.session.has(name) or reason.through is None else reason.through

    def _fault(self, value: Any) -> str | None:
        """Why ``value``, taken alone, can't be pickled."""
        try:
            self._probe(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            return str(error).split("\n")[0] or type(error).__name__
        return None

    def _probe(self, value: Any) -> None:
        def visit(obj: Any) -> None:
            if refusals.why_not(obj):
                raise TypeError(f"{type(obj).__name__} can't go to another machine")

        def reference(obj: Any) -> str | None:
            ours = getattr(obj, "__module__", None) == "__main__"
            return "known" if ours or (self._named().get(id(obj)) and imports.where(obj) is None) else None

        objects.dump(value, streams.LiveSink(), objects.Labels(), prefix="", reference=reference, visit=visit)

    def _shared(self, seen: set[int]) -> bool:
        """Make data of containers written as source that other values hold too; whether there were any."""
        owners: dict[int, list[str]] = {}
        for name, (written, _) in self.literals.items():
            for part in written.parts:
                owners.setdefault(part, []).append(name)
        moved = {name for part, names in owners.items() if len(names) > 1 or part in seen for name in names}
        for name in moved:
            _, value = self.literals.pop(name)
            del self.parts[name]
            self.data[name] = value
        return bool(moved)

    # ---- credentials

    def _check(self, name: str, value: Any, reason: Reason) -> None:
        """Refuse a value that is a credential by its name or look, or a plain container that holds one."""
        if name in self._allowed:
            return
        if self._is_credential(name, value):
            raise self._credential(self._credential_in(value, name), name, reason)

    def _is_credential(self, name: str, value: Any) -> bool:
        return secrets.named_secret(name, value) or self._holds_credential(value)

    def _credential_in(self, value: Any, shown: str) -> str:
        """How a person writes the credential that is somewhere in ``value``, known as ``shown``."""
        path, inner = refusals.locate(value, shown, lambda part: not self._holds_credential(part))
        if (key := secrets.in_mapping(inner)) is not None:
            return f"{path}[{key!r}]"
        if (key := secrets.in_mapping(getattr(inner, "__dict__", None))) is not None:
            return f"{path}.{key}"
        return path

    def _holds_credential(self, value: Any) -> bool:
        queue = deque([value])
        seen: set[int] = set()
        while queue:
            item = queue.popleft()
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, (str, bytes)):
                if secrets.looks_secret(item):
                    return True
            elif isinstance(item, dict):
                if secrets.in_mapping(item) is not None:
                    return True
                queue.extend(item.values())
            elif isinstance(item, (list, tuple, set, frozenset)):
                queue.extend(item)
            elif hasattr(item, "__dict__") and not isinstance(item, (type, types.ModuleType, types.FunctionType)):
                queue.append(vars(item))
        return False

    def _credential(self, path: str, name: str, reason: Reason | None = None) -> CannotShip:
        reason = reason or self._reason(name)
        variable = re.findall(r"[A-Za-z]\w*", path)[-1].upper()
        return CannotShip(
            f"{path}{reason} looks like a credential, and runs are kept on disk. Say --in {name} if it may go, or set it "
            f"as an environment variable and use --env {variable} and os.environ['{variable}']."
        )

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


class _Credential(Exception):
    """A credential was met inside of a value."""


_MODULE_NAMES = frozenset(
    {"__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__package__", "__loader__"}
)


def _typing(value: Any) -> bool:
    return type(value).__module__ == "typing" or isinstance(value, (typing.TypeVar, types.GenericAlias))


def _plain_names(written: Literal) -> Iterable[str]:
    """Built-in names that a literal relies on."""
    return written.names & vars(builtins).keys()


__all__ = ["MUTABLE", "Reason", "Slice"]
