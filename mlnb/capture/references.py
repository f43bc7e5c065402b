"""By which names the script knows functions and classes, whatever the session calls them."""

from __future__ import annotations

import types
from typing import Any, Protocol

from mlnb.capture.reasons import Reason
from mlnb.capture.session import Session
from mlnb.capture.source import imports
from mlnb.capture.source.definition import Source
from mlnb.capture.source.definitions import Definitions
from mlnb.capture.source.imports import Import
from mlnb.capture.source.introspection import is_ours
from mlnb.capture.source.modules import LocalModules
from mlnb.errors import CannotShip


class Owner(Protocol):
    """What collects the names that references lead to."""

    imports: dict[str, Import]
    reasons: dict[str, Reason]

    def need(self, name: str, reason: Reason, how: str = "surely") -> None:
        """The script needs ``name``."""

    def add(self, name: str, source: Source, reason: Reason) -> None:
        """The script defines ``name``."""

    def note(self, note: str) -> None:
        """Tell the person something."""


class References:
    """Names functions and classes.

    Attributes
    ----------
    bindings
        functions and classes by names that only the script has.
    """

    def __init__(self, owner: Owner, session: Session, definitions: Definitions, modules: LocalModules) -> None:
        self._owner = owner
        self._session = session
        self._definitions = definitions
        self._modules = modules
        self.bindings: dict[str, Any] = {}
        self._generated: dict[int, str] = {}
        self._names: dict[int, list[str]] | None = None

    def known(self, value: Any) -> bool:
        """Whether the script knows ``value`` by a name, since the notebook has defined it."""
        if getattr(value, "__module__", None) == "__main__":
            return True
        return id(value) in self.named() and imports.where(value) is None

    def source(self, name: str, value: types.FunctionType | type) -> Source | None:
        """Source that defines what the notebook has defined as ``name``; ``None`` if there is none."""
        ours = isinstance(value, type) and value.__module__ == "__main__"
        if isinstance(value, types.FunctionType):
            ours = is_ours(value)
            return self._definitions.function(name, value) if ours else None
        return self._definitions.cls(name, value) if ours else None

    def name_for(self, value: Any, reason: Reason, *, anew: bool = False) -> str | None:
        """By which name the script knows a function or class.

        Parameters
        ----------
        anew
            see :meth:`reference`.
        """
        if imports.where(value) is None:
            return self.reference(value, reason, anew=anew)
        for name in self.named().get(id(value), []):
            self._owner.need(name, reason)
            return name
        module, qualname = imports.where(value) or ("", "")
        root = qualname.split(".")[0]
        name = self._free(root)
        self._owner.imports[name] = Import(module, root, name)
        self._modules.need(module)
        return ".".join([name, *qualname.split(".")[1:]])

    def reference(self, value: Any, reason: Reason, *, anew: bool = False) -> str | None:
        """The name by which what the notebook defines is known in the script; ``None`` for anything else.

        Parameters
        ----------
        anew
            whether a name by which a class holds it is of no use.
        """
        if id(value) in self._generated:
            return self._generated[id(value)]
        ours = getattr(value, "__module__", None) == "__main__"
        ours = ours or (isinstance(value, types.FunctionType) and is_ours(value))
        names = self.named().get(id(value), [])
        if names and (ours or imports.where(value) is None):
            name = value.__name__ if value.__name__ in names else names[0]
            self._owner.need(name, reason)
            return name
        if not ours:
            self._modules.need(getattr(value, "__module__", None) or "")
            return None
        dotted = None if anew else self._dotted(value, reason)
        return dotted or self._generate(value, reason) or self._renewed(value, reason)

    def _dotted(self, value: Any, reason: Reason) -> str | None:
        """The qualified name of what a live class holds."""
        root, *parts = value.__qualname__.split(".")
        found = self._session.namespace.get(root)
        for part in parts:
            found = getattr(found, part, None) if isinstance(found, type) else None
        if found is None or found is not value:
            return None
        self._owner.need(root, reason)
        return str(value.__qualname__)

    def _renewed(self, value: Any, reason: Reason) -> str:
        """The name of the present definition of what ``value`` is an earlier definition of."""
        name = value.__qualname__
        root = name.split(".")[0]
        if not self._session.has(root) or "<locals>" in name:
            raise CannotShip(
                f"{reason.through or name}{Reason(reason.line)} needs {name}, whose source can't be found: "
                "define it in a cell of the notebook."
            )
        self._owner.need(root, reason)
        return str(name)

    def _generate(self, value: Any, reason: Reason) -> str | None:
        """Define what has no name in the session under one made for the script."""
        live = self._session.namespace.get(value.__name__)
        if isinstance(value, type) and isinstance(live, type) and live.__qualname__ == value.__qualname__:
            name = value.__name__
            self._owner.note(
                f"{reason.through} was made by an earlier definition of {name}: it goes with the present one"
            )
            return self._renewed(value, reason)
        name = self._free("lambda" if value.__name__ == "<lambda>" else value.__name__.lstrip("_"))
        source = self.source(name, value) or self._definitions.statement(value.__name__, value, name)
        if source is None:
            return None
        self.bindings[name] = value
        self._generated[id(value)] = name
        self._owner.reasons[name] = reason
        self._owner.add(name, source, reason)
        return name

    def _free(self, base: str) -> str:
        """A name like ``base`` that nothing else has."""
        taken = (self.bindings, self._owner.imports, self._session.namespace)
        number = 1
        while any(f"_{base}_{number}" in names for names in taken):
            number += 1
        return f"_{base}_{number}"

    def named(self) -> dict[int, list[str]]:
        """``id`` → the session's names of it."""
        if self._names is None:
            self._names = {}
            for name, value in self._session.namespace.items():
                if self._session.has(name):
                    self._names.setdefault(id(value), []).append(name)
        return self._names
