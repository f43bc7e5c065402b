"""Binds a run's outputs in a session (definitions, values, deletions) as if the cell had run here."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from mlnb.api.results.outputs import Pulled, merge_process_state, pull
from mlnb.api.results.session import SessionLink
from mlnb.capture.replay.of_cell import settings_of_cell
from mlnb.capture.source.nodes import defined_names
from mlnb.node.data.kinds.code import ScriptCode, show_source
from mlnb.node.rank.tracebacks import source_location
from mlnb.rundir import RunDir
from mlnb.task import Task


def deliver(
    run: RunDir,
    task: Task,
    namespace: dict[str, Any],
    names: set[str] | None = None,
    newer: Collection[str] = (),
    link: SessionLink | None = None,
) -> Pulled:
    """Bind a succeeded run's outputs in ``namespace``.

    Parameters
    ----------
    task
        the run's task.
    names
        the names to bind of those that the task lists; ``None`` for all.
    newer
        names that have been assigned a newer value since.
    link
        the session's objects, if this session submitted the run.

    Returns
    -------
    Pulled
        the outputs, with a note for each that could not be returned.

    Raises
    ------
    MlnbError
        if the run has left no outputs.
    NotTrusted
        if another user could have written its files.
    """
    listed = {*task.outputs, *task.inputs, *task.deletes}

    def is_wanted(name: str) -> bool:
        return names is None or name in names or (name not in listed and name not in newer)

    sent, of_cell = definitions(task)
    to_bind = [definition for definition in of_cell if any(map(is_wanted, definition.names))]
    failed = _define(to_bind, task, namespace)
    script = ScriptCode(task.script, segments=task.segments)
    pulled = pull(run, link, namespace, script)
    if pulled.missing:  # a session that was restarted: the run directory has the definitions that were sent
        added = [definition for definition in sent if not set(definition.names) & set(namespace)]
        for definition in added:
            definition.define(namespace)
        pulled = pull(run, link, namespace, script)
        restored = sorted(
            {name for definition in added for name in definition.names if not isinstance(definition.node, _IMPORTS)}
        )
        pulled.notes.append(f"{', '.join(restored)}: defined here as in the run, since the session lacked them")
    if link is not None and link.process is not None:
        pulled.notes += _repeat_settings(task, namespace)
        merge_process_state(run, link.process)
    defined = {name for definition in to_bind for name in definition.names}
    for name in list(pulled.values):
        if isinstance(pulled.values[name], FunctionType):
            defined.discard(name)  # with the state that the cell left in it
        if name in defined or not is_wanted(name):
            del pulled.values[name]
    pulled.merge()
    namespace.update(pulled.values)
    for name in (*pulled.deleted, *pulled.lost):
        if is_wanted(name) and name not in defined:
            namespace.pop(name, None)
    pulled.notes[:] = [note for note in pulled.notes if note.split(" ", 1)[0] not in defined]
    for definition in failed:
        error = definition.define(namespace)
        if error is not None:
            pulled.notes.append(f"{', '.join(definition.names)} could not be defined here: {error}")
    return pulled


def _define(definitions: list[Definition], task: Task, namespace: dict[str, Any]) -> list[Definition]:
    """Execute definitions; returns those that fail, as some may need a value that is bound later."""
    if definitions:
        show_source(task.script, task.segments)
    return [definition for definition in definitions if definition.define(namespace) is not None]


def _repeat_settings(task: Task, namespace: dict[str, Any]) -> list[str]:
    """Run the statements of a cell that set something in libraries; returns a note for each that fails."""
    notes = []
    if task.interactive and task.segments:
        cell = task.segments[-1]
        for node in settings_of_cell(task.script, cell.start, namespace):
            error = Definition((), node, f"<{cell.source}>").define(namespace)
            if error is not None:
                notes.append(f"{ast.unparse(node)} of the cell could not be repeated here: {error}")
    return notes


@dataclass(frozen=True)
class Definition:
    """A statement at the top level that imports or defines names."""

    names: tuple[str, ...]
    node: ast.stmt
    filename: str

    def define(self, namespace: dict[str, Any]) -> str | None:
        """Execute it in ``namespace``. Returns the error as text if it fails, else ``None``."""
        try:
            exec(compile(ast.Module([self.node], []), self.filename, "exec", dont_inherit=True), namespace)  # noqa: S102
        except Exception as error:  # noqa: BLE001 - the cell's own code
            return f"{type(error).__name__}: {error}"
        return None


_IMPORTS = (ast.Import, ast.ImportFrom)


def definitions(task: Task) -> tuple[list[Definition], list[Definition]]:
    """What a task's script defines and imports, in order: those sent along with the cell, and the cell's own.

    Line numbers are those of the notebook's cells.
    """
    if not task.interactive or not task.segments:
        return [], []
    sent: list[Definition] = []
    of_cell: list[Definition] = []
    for node in ast.parse(task.script).body:
        names = tuple(defined_names(node))
        if not names or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlnb.node")):
            continue
        location = source_location(task.segments, node.lineno) or ("mlnb", node.lineno)
        destination = of_cell if node.lineno >= task.segments[-1].start else sent
        ast.increment_lineno(node, location[1] - node.lineno)
        destination.append(Definition(names, node, f"<{location[0]}>"))
    return sent, of_cell
