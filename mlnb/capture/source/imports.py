"""Import lines: the person's own where they still give the same object, else made from where the object is."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.capture.source.history import Sources


@dataclass(frozen=True)
class Import:
    """One name's import.

    Attributes
    ----------
    module
        the module that is imported (from).
    attribute
        what is taken from it; ``None`` for ``import module``.
    name
        the name it is bound to.
    position
        when the person's own statement ran; ``(-1, 0)`` if there is none.
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


def find(name: str, value: Any, sources: Sources) -> Import | None:
    """How to import ``value`` as ``name``; ``None`` if it can't be imported."""
    return _own(name, value, sources) or _made(name, value)


def _own(name: str, value: Any, sources: Sources) -> Import | None:
    for found in sources.bindings(name):
        node = found.node
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                module = alias.name if alias.asname else alias.name.split(".")[0]
                if sys.modules.get(module) is value:
                    return Import(module, None, name, found.position)
            elif node.module and not node.level and resolve(node.module, alias.name) is value:
                return Import(node.module, alias.name, name, found.position)
    for cell, module in sources.star_imports():
        if resolve(module, name) is value:
            return Import(module, name, name, (cell.order, 1))
    return None


def _made(name: str, value: Any) -> Import | None:
    if isinstance(value, types.ModuleType):
        known = sys.modules.get(value.__name__) is value and value.__name__ != "__main__"
        return Import(value.__name__, None, name) if known else None
    home = where(value)
    if home is None or "." in home[1]:
        return None
    return Import(home[0], home[1], name)


def where(value: Any) -> tuple[str, str] | None:
    """The module and the qualified name by which ``value`` can be had on another machine."""
    module, qualname = (
        _attribute(value, "__module__"),
        _attribute(value, "__qualname__") or _attribute(value, "__name__"),
    )
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    return (module, qualname) if resolve(module, qualname) is value else None


def _attribute(value: Any, name: str) -> Any:
    """An attribute, ``None`` where the object has none or its own code fails over the question."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - code of the session's objects
        return None


def resolve(module: str, qualname: str) -> Any:
    """What ``qualname`` is in the loaded ``module``; a submodule if it is that; :data:`MISSING` if nothing."""
    found: Any = sys.modules.get(module, MISSING)
    for part in qualname.split("."):
        if found is MISSING or part == "<locals>":
            return MISSING
        found = vars(found).get(part, MISSING) if isinstance(found, types.ModuleType) else getattr(found, part, MISSING)
    if found is MISSING:
        found = sys.modules.get(f"{module}.{qualname}", MISSING)
    if found is MISSING and module in sys.modules and "." not in qualname:
        found = getattr(sys.modules[module], qualname, MISSING)  # a module's own __getattr__
    return found


MISSING = type("Missing", (), {"__doc__": "Stands for nothing found."})()


def submodules(chains: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, str]:
    """Loaded submodules that dotted names reach through a module: their name → the name at the chain's start."""
    found: dict[str, str] = {}
    for chain in chains:
        root, *parts = chain.split(".")
        module = namespace.get(root)
        last = None
        for part in parts:
            if not isinstance(module, types.ModuleType):
                break
            module = vars(module).get(part)
            if isinstance(module, types.ModuleType) and sys.modules.get(module.__name__) is module:
                last = module.__name__
        start = namespace.get(root)
        if last and isinstance(start, types.ModuleType) and last.startswith(start.__name__ + "."):
            found[last] = root
    return {name: root for name, root in found.items() if not any(n.startswith(name + ".") for n in found)}


def lines(imports: Iterable[Import]) -> list[str]:
    """Import statements in the person's order, those from one module together."""
    plain: list[str] = []
    grouped: dict[str, dict[str, None]] = {}
    ordered = sorted(imports, key=lambda found: (found.position, found.attribute is not None, found.text))
    for found in ordered:
        if found.attribute is None:
            plain.append(found.text)
        else:
            grouped.setdefault(found.module, {})[found._item] = None
    froms = [_wrapped(module, list(items)) for module, items in grouped.items()]
    return [*dict.fromkeys(plain), *froms]


def _wrapped(module: str, items: list[str]) -> str:
    line = f"from {module} import {', '.join(items)}"
    if len(line) <= 100:
        return line
    return "\n".join([f"from {module} import (", *(f"    {item}," for item in items), ")"])
