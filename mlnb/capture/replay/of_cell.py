"""What a cell that has run elsewhere set in libraries, by its own statements: these set it in the session, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlnb.capture.replay.statements import Effect, EffectFinder, begins_something
from mlnb.capture.source.imports import resolve
from mlnb.capture.source.modules import LocalModules
from mlnb.capture.source.nodes import Cell, DefNode, top_level


def settings_of_cell(script: str, first_line: int, namespace: Mapping[str, Any]) -> Iterator[ast.stmt]:
    """The statements of a script, from a line on, that set something in a library, in their order.

    What they set in local modules is left out: the values of these come back themselves.
    """
    local = LocalModules(Path.cwd())
    for effect in effects_of_cell(script, first_line, namespace):
        is_definition = isinstance(effect.node, DefNode)  # it comes back itself, by its source
        if not begins_something(effect.node) and not is_definition and not any(map(local.is_local, effect.libraries)):
            yield effect.node


def effects_of_cell(script: str, first_line: int, namespace: Mapping[str, Any]) -> Iterator[Effect]:
    """The statements of a script, from a line on, that change libraries or local modules, in their order."""
    cell = Cell(script, "cell", 0)
    imported: dict[str, str] = {}
    for node in top_level(cell.tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = alias.asname or alias.name
                if name in namespace and resolve(node.module, alias.name) is namespace[name]:
                    imported[name] = node.module
    for effect in EffectFinder(namespace, imported).of_cell(cell):
        if effect.node.lineno >= first_line:
            yield effect
