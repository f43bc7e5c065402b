"""References: the names by which the script refers to the session's functions and classes."""

from __future__ import annotations

import sys
import types
from typing import Any, Protocol

from mlnb.capture.names.analysis import global_reads
from mlnb.capture.reasons import Need, Reason
from mlnb.capture.session import Session
from mlnb.capture.source.definition import DefinitionSource
from mlnb.capture.source.definitions import DefinitionFinder
from mlnb.capture.source.imports import Import, import_location
from mlnb.capture.source.introspection import is_from_session, unwrap
from mlnb.capture.source.modules import LocalModules


class Collector(Protocol):
    """What collects the names that references need (:class:`mlnb.capture.slice.Slice`)."""

    imports: dict[str, Import]
    reasons: dict[str, Reason]

    def need(self, name: str, reason: Reason, how: Need = Need.REQUIRED) -> None:
        """The script needs ``name``."""

    def add_definition(self, name: str, source: DefinitionSource, reason: Reason) -> None:
        """The script defines ``name``."""

    def note(self, note: str) -> None:
        """Tell the user something."""


class References:
    """Finds or generates names for functions and classes, and adds what defines them to the script.

    Attributes
    ----------
    generated
        functions and classes by the names that only the script has for them.
    """

    def __init__(self, collector: Collector, session: Session, finder: DefinitionFinder, modules: LocalModules) -> None:
        self._collector = collector
        self._session = session
        self._finder = finder
        self._modules = modules
        self.generated: dict[str, Any] = {}
        self._generated_names: dict[int, str] = {}
        self._by_value: dict[int, Any] = {}  # what has no source, by id
        self._session_names: dict[int, list[str]] | None = None

    def session_names(self, value: Any) -> list[str]:
        """The session's names for ``value``."""
        if self._session_names is None:
            self._session_names = {}
            for name, named in self._session.namespace.items():
                if self._session.has(name):
                    self._session_names.setdefault(id(named), []).append(name)
        return self._session_names.get(id(value), [])

    def is_defined_in_script(self, value: Any) -> bool:
        """Whether ``value`` is defined in the notebook, so that the script can define it under a name."""
        if getattr(value, "__module__", None) == "__main__":
            return True
        return bool(self.session_names(value)) and import_location(value) is None

    def source_of(self, name: str, value: types.FunctionType | type) -> DefinitionSource | None:
        """Source that defines a function or class of the notebook as ``name``; ``None`` if there is none."""
        if isinstance(value, types.FunctionType):
            return self._finder.for_function(name, value) if is_from_session(value) else None
        return self._finder.for_class(name, value) if value.__module__ == "__main__" else None

    def name_of(self, value: Any, reason: Reason, *, through_class: bool = True) -> str | None:
        """The script's name for a function or class, which may be dotted; it is imported if it isn't the notebook's.

        Parameters
        ----------
        through_class
            see :meth:`reference`.
        """
        location = import_location(value)
        if location is None:
            return self.reference(value, reason, through_class=through_class)
        for name in self.session_names(value):
            self._collector.need(name, reason)
            return name
        module, qualname = location
        root, *attributes = qualname.split(".")
        name = self._unused_name(root)
        self._collector.imports[name] = Import(module, root, name)
        self._modules.add(module)
        return ".".join([name, *attributes])

    def reference(self, value: Any, reason: Reason, *, through_class: bool = True) -> str | None:
        """The script's name for what the notebook defines, which may be dotted; ``None`` for anything else.

        Parameters
        ----------
        through_class
            whether ``Class.attribute`` will do as a name.

        """
        if id(value) in self._generated_names:
            return self._generated_names[id(value)]
        if id(value) in self._by_value:
            return None
        is_ours = getattr(value, "__module__", None) == "__main__"
        is_ours = is_ours or (isinstance(value, types.FunctionType) and is_from_session(value))
        names = self.session_names(value)
        if names and (is_ours or import_location(value) is None):
            name = value.__name__ if value.__name__ in names else names[0]
            self._collector.need(name, reason)
            return name
        if not is_ours:
            self._modules.add(getattr(value, "__module__", None) or "")
            return None
        qualified = self._qualified_name(value, reason) if through_class else None
        found = qualified or self._generate(value, reason)
        if found is None and isinstance(value, types.FunctionType) and not is_from_session(value):
            self._by_value[id(value)] = value  # a library's function that has the name of the one that it calls
            self._modules.add(value.__globals__.get("__name__", ""))
            return None
        return found or self._current_definition(value, reason)

    def _qualified_name(self, value: Any, reason: Reason) -> str | None:
        """``Class.attribute``, if a class of the session has ``value`` there."""
        root, *attributes = value.__qualname__.split(".")
        live = self._session.namespace.get(root)
        for attribute in attributes:
            live = getattr(live, attribute, None) if isinstance(live, type) else None
        if live is None or live is not value:
            return None
        self._collector.need(root, reason)
        return str(value.__qualname__)

    def _current_definition(self, value: Any, reason: Reason) -> str | None:
        """The name of the current definition of what ``value`` is an earlier definition of; ``None`` without one."""
        name = value.__qualname__
        root = name.split(".")[0]
        if not self._session.has(root) or "<locals>" in name:
            self.send_by_value(name, value, reason)
            return None
        self._collector.need(root, reason)
        return str(name)

    def keep_as_data(self, value: Any) -> None:
        """Have data contain ``value`` itself, not a name for it."""
        self._by_value[id(value)] = value

    def send_by_value(self, name: str, value: Any, reason: Reason) -> None:
        """Send what has no source as data, in bytecode."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._collector.note(f"{name}: its source was not found, so the run needs Python {version}, as here")
        functions = [value] if isinstance(value, types.FunctionType) else []
        if isinstance(value, type):
            functions = [function for item in vars(value).values() if (function := unwrap(item)) is not None]
        for item in (value, *functions):
            self._by_value[id(item)] = item
        for read in sorted({read for function in functions for read in global_reads(function.__code__)}):
            self._collector.need(read, Reason(reason.line, name), Need.DEFERRED)

    def _generate(self, value: Any, reason: Reason) -> str | None:
        """Define what has no name in the session under a generated name."""
        current = self._session.namespace.get(value.__name__)
        if isinstance(value, type) and isinstance(current, type) and current.__qualname__ == value.__qualname__:
            name = value.__name__
            self._collector.note(
                f"{reason.through} was created by an earlier definition of {name}: the run uses the current {name}"
            )
            return self._current_definition(value, reason)
        name = self._unused_name("lambda" if value.__name__ == "<lambda>" else value.__name__.lstrip("_"))
        source = self.source_of(name, value) or self._finder.by_name(value.__name__, value, name)
        if source is None:
            return None
        self.generated[name] = value
        self._generated_names[id(value)] = name
        self._collector.reasons[name] = reason
        self._collector.add_definition(name, source, reason)
        return name

    def _unused_name(self, base: str) -> str:
        """A name like ``base`` that nothing else has."""
        used = (self.generated, self._collector.imports, self._session.namespace)
        number = 1
        while any(f"_{base}_{number}" in names for names in used):
            number += 1
        return f"_{base}_{number}"
