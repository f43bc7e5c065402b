"""Imports of a cell that runs elsewhere are done here at once: a module is nothing that the run changes."""

from __future__ import annotations

import ast
import contextlib
import types
from typing import Any

from mlnb.capture.names.analysis import analyse
from mlnb.capture.outputs import IMMUTABLE


def import_now(tree: ast.Module, namespace: dict[str, Any]) -> set[str]:
    """Execute a cell's imports in ``namespace``; returns the names that the run need not return.

    An import that fails here is left to the run. So is a name that the cell assigns or deletes as well, and a value
    that it may change.
    """
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_future(node)]
    others = analyse(ast.Module([node for node in tree.body if node not in imports], []))
    bound: set[str] = set()
    for node in imports:
        names = {alias.asname or alias.name.partition(".")[0] for alias in node.names} - {"*"}
        if names & (others.stores | others.deletes):
            continue
        with contextlib.suppress(Exception):
            exec(compile(ast.Module([node], []), "<import>", "exec", dont_inherit=True), namespace)  # noqa: S102
            bound |= {name for name in names if isinstance(namespace.get(name), _CONSTANT)}
    return bound


_CONSTANT = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, *IMMUTABLE)
"""Types of values that no run changes."""


def _is_future(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
