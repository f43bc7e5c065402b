"""Imports of a cell that runs elsewhere are done here at once: a module is nothing that the run changes."""

from __future__ import annotations

import ast
import contextlib
import sys
import types
from pathlib import Path
from typing import Any

from mlnb.capture.names.analysis import analyse
from mlnb.capture.outputs import IMMUTABLE
from mlnb.capture.source.modules import LocalModules


def import_local(tree: ast.Module, folder: Path) -> None:
    """Import the local modules that a cell imports, so that session and run start from the same values of them.

    Names are bound later (:func:`import_now`). An import that fails here is left to the run.
    """
    local = LocalModules(folder)
    for node in tree.body:
        with contextlib.suppress(Exception):
            for name in _not_loaded(node):
                local.add(name)
                if name.partition(".")[0] in local.sizes:
                    exec(compile(ast.Module([node], []), "<import>", "exec", dont_inherit=True), {})  # noqa: S102
                    break


def _not_loaded(node: ast.stmt) -> list[str]:
    """The modules that a statement may import for the first time in this process."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name not in sys.modules]
    if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
        return []
    module = sys.modules.get(node.module)
    is_loaded = module is not None and all(alias.name == "*" or hasattr(module, alias.name) for alias in node.names)
    return [] if is_loaded else [node.module]


def import_now(tree: ast.Module, namespace: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Execute a cell's imports in ``namespace``.

    Returns
    -------
    tuple
        the names that the run need not return, and those of ``from module import *`` whose values the cell may change.

    An import that fails here is left to the run. So is a name that the cell assigns or deletes as well, and a value
    that it may change.
    """
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_future(node)]
    others = analyse(ast.Module([node for node in tree.body if node not in imports], []))
    bound: set[str] = set()
    changed: set[str] = set()
    for node in imports:
        names = {alias.asname or alias.name.partition(".")[0] for alias in node.names} - {"*"}
        if names & (others.stores | others.deletes):
            continue
        with contextlib.suppress(Exception):
            exec(compile(ast.Module([node], []), "<import>", "exec", dont_inherit=True), namespace)  # noqa: S102
            bound |= {name for name in names if isinstance(namespace.get(name), _CONSTANT)}
            if any(alias.name == "*" for alias in node.names):
                changed |= {name for name in others.maybe_mutated if not isinstance(namespace.get(name), _CONSTANT)}
    return bound, changed


_CONSTANT = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, *IMMUTABLE)
"""Types of values that no run changes."""


def _is_future(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
