"""Libraries: which of the loaded ones a cell uses, and which of them depend on each other or patch each other."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.imports import resolve
from mlnb.capture.source.modules import LocalModules, parsed
from mlnb.capture.source.nodes import Cell

ALWAYS = frozenset({"numpy", "torch", *sys.stdlib_module_names})
"""What every run has loaded anyway. To depend on these ties a library to no cell."""


def is_used(library: str, used: Collection[str]) -> bool:
    """Whether a change of ``library`` may matter to code that uses the libraries ``used``."""
    return library in ALWAYS or library in used or bool(dependencies(library) & (set(used) - ALWAYS))


def dependencies(library: str) -> set[str]:
    """The top-level modules of which the loaded modules of ``library`` hold something."""
    found: set[str] = set()
    for module in _modules(library):
        for value in list(vars(module).values()):
            name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str):
                found.add(name.split(".")[0])
    return found - {library}


def _modules(library: str) -> Iterator[types.ModuleType]:
    for name, module in sys.modules.copy().items():  # a list of the items could meet an import
        if (name == library or name.startswith(library + ".")) and type(module) is types.ModuleType:
            yield module


def imported_names(history: SourceHistory, namespace: Mapping[str, Any]) -> dict[str, str]:
    """The names that the session's ``from module import name`` still give, with the modules."""
    found: dict[str, str] = {}
    for _, node in history.imports():
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = alias.asname or alias.name
                if name in namespace and resolve(node.module, alias.name) is namespace[name]:
                    found[name] = node.module
    return found


def imports_for_effect(
    history: SourceHistory, used: Collection[str], names_read: Collection[str], modules: LocalModules
) -> Iterator[tuple[Cell, ast.Import | ast.ImportFrom, ast.alias]]:
    """What the session imports for what this does to others.

    Those are modules whose names the session never reads, and local modules that change others when they are imported.
    """
    for cell, node in history.imports():
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            module = _module(node, alias)
            library = module.split(".")[0]
            if library in ALWAYS or library in ("IPython", "ipywidgets", "mlnb") or module not in sys.modules:
                continue
            if modules.is_local(library):
                if name not in names_read or _changes_others(sys.modules[module]):
                    yield cell, node, alias
            elif name not in names_read and (is_used(library, used) or _patches_torch(library)):
                yield cell, node, alias


def _module(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The module that one item of an import statement loads."""
    if isinstance(node, ast.Import):
        return alias.name
    submodule = f"{node.module}.{alias.name}"
    return submodule if submodule in sys.modules else node.module or ""


def _changes_others(module: types.ModuleType) -> bool:
    """Whether a local module's top level does more than to define names."""
    file = getattr(module, "__file__", None)
    tree = parsed(Path(file)) if file and Path(file).is_file() else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return True
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            return True
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.decorator_list:
            return True
    return False


def _patches_torch(library: str) -> bool:
    """Whether torch holds something that ``library`` has put there."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    holders = [torch, torch.Tensor, torch.nn.Module, torch.nn, torch.nn.functional, torch.optim, torch.optim.Optimizer]
    values = (value for holder in holders for value in list(vars(holder).values()))
    return any((getattr(value, "__module__", None) or "").split(".")[0] == library for value in values)
