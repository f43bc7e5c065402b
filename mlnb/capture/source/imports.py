"""Imports: the user's own import of an object if it still gives that object, else one from where the object is."""

from __future__ import annotations

import ast
import enum
import pickle
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.capture.source.history import SourceHistory


@dataclass(frozen=True)
class Import:
    """The import of one name.

    Attributes
    ----------
    module
        the module that is imported (from).
    attribute
        what is imported from it; ``None`` for ``import module``.
    name
        the name that is assigned.
    position
        sort key: when the user's own import ran; ``(-1, 0)`` if there is none.
    """

    module: str
    attribute: str | None
    name: str
    position: tuple[int, int] = (-1, 0)

    @property
    def text(self) -> str:
        """The import statement."""
        if self.attribute is None:
            plain = self.name == self.module.split(".")[0]
            return f"import {self.module}" if plain else f"import {self.module} as {self.name}"
        return f"from {self.module} import {self._item}"

    @property
    def _item(self) -> str:
        return f"{self.attribute}" if self.attribute == self.name else f"{self.attribute} as {self.name}"


def find_import(name: str, value: Any, history: SourceHistory) -> Import | None:
    """How to import ``value`` as ``name``; ``None`` if it can't be imported."""
    return _from_history(name, value, history) or _from_object(name, value)


def _from_history(name: str, value: Any, history: SourceHistory) -> Import | None:
    """The newest import in the session that still gives ``value``."""
    for statement in history.definitions(name):
        node = statement.node
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                module = alias.name if alias.asname else alias.name.split(".")[0]
                if sys.modules.get(module) is value:
                    return Import(module, None, name, statement.position)
            elif node.module and not node.level and resolve(node.module, alias.name) is value:
                return Import(node.module, alias.name, name, statement.position)
    for cell, module in history.star_imports():
        if resolve(module, name) is value:
            return Import(module, name, name, (cell.order, 1))
    return None


def library_of(name: str, value: Any, history: SourceHistory) -> str | None:
    """The module of which ``value``, which the session imports from it, must stay an attribute, as a copy won't do.

    Such are ``matplotlib.rcParams``, ``os.environ`` and loggers. What is nothing but its attributes can be sent.
    """
    kind = type(value)
    if callable(value) or isinstance(value, enum.Enum) or kind.__module__.split(".")[0] in _COPIED:
        return None
    imported = _from_history(name, value, history)
    if imported is None or imported.attribute is None:
        return None
    own = {name for base in kind.__mro__[:-1] for name in vars(base)}
    is_simple = own.isdisjoint({"__reduce__", "__reduce_ex__"})
    return None if is_simple and not isinstance(value, dict) and not _holds_locks(value) else imported.module


_COPIED = frozenset({"builtins", "enum", "numpy", "pandas", "pathlib", "torch"})
"""Libraries whose objects are values."""


def _holds_locks(value: Any) -> bool:
    """Whether an object can't be copied, since it holds what belongs to this process."""
    try:
        pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - code of the session's objects
        return True
    return False


def _from_object(name: str, value: Any) -> Import | None:
    if isinstance(value, types.ModuleType):
        is_importable = sys.modules.get(value.__name__) is value and value.__name__ != "__main__"
        return Import(value.__name__, None, name) if is_importable else None
    location = import_location(value)
    if location is None or "." in location[1]:
        return None
    return Import(location[0], location[1], name)


def import_location(value: Any) -> tuple[str, str] | None:
    """The module and qualified name by which another process can import ``value``; ``None`` without one."""
    module = _attribute(value, "__module__")
    qualname = _attribute(value, "__qualname__") or _attribute(value, "__name__")
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    return (module, qualname) if resolve(module, qualname) is value else None


def _attribute(value: Any, name: str) -> Any:
    """An attribute; ``None`` if the object has none, or if its own code raises."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - code of the session's objects
        return None


def resolve(module: str, qualname: str) -> Any:
    """The attribute or submodule ``qualname`` of the loaded ``module``; :data:`MISSING` if it has none."""
    value: Any = sys.modules.get(module, MISSING)
    for part in qualname.split("."):
        if value is MISSING or part == "<locals>":
            return MISSING
        value = vars(value).get(part, MISSING) if isinstance(value, types.ModuleType) else getattr(value, part, MISSING)
    if value is MISSING:
        value = sys.modules.get(f"{module}.{qualname}", MISSING)
    if value is MISSING and module in sys.modules and "." not in qualname:
        value = getattr(sys.modules[module], qualname, MISSING)  # a module's own __getattr__
    return value


MISSING = type("Missing", (), {"__doc__": "Stands for an attribute that does not exist."})()


def submodules(dotted_names: Iterable[str], namespace: Mapping[str, Any]) -> set[str]:
    """The loaded submodules that dotted names reach through their packages, the innermost ones only."""
    names: set[str] = set()
    for dotted in dotted_names:
        root, *parts = dotted.split(".")
        package = module = namespace.get(root)
        innermost = None
        for part in parts:
            if not isinstance(module, types.ModuleType):
                break
            module = vars(module).get(part)
            if isinstance(module, types.ModuleType) and sys.modules.get(module.__name__) is module:
                innermost = module.__name__
        if innermost and isinstance(package, types.ModuleType) and innermost.startswith(package.__name__ + "."):
            names.add(innermost)
    return {name for name in names if not any(other.startswith(name + ".") for other in names)}


def import_lines(imports: Iterable[Import]) -> list[str]:
    """Import statements in the user's order; imports from the same module become one statement."""
    plain: list[str] = []
    starred: list[str] = []
    grouped: dict[str, dict[str, None]] = {}
    for item in sorted(imports, key=lambda item: (item.position, item.attribute is not None, item.text)):
        if item.attribute is None:
            plain.append(item.text)
        elif item.attribute == "*":
            starred.append(f"from {item.module} import *")
        else:
            grouped.setdefault(item.module, {})[item._item] = None
    return [
        *dict.fromkeys(plain),
        *dict.fromkeys(starred),
        *(_from_statement(module, list(items)) for module, items in grouped.items()),
    ]


def _from_statement(module: str, items: list[str]) -> str:
    line = f"from {module} import {', '.join(items)}"
    if len(line) <= 100:
        return line
    return "\n".join([f"from {module} import (", *(f"    {item}," for item in items), ")"])
