"""Loads a run's outputs from its directory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlnb.api.results.session import SessionLink
from mlnb.errors import MlnbError
from mlnb.node.data import objects, process_state, storages
from mlnb.node.data.kinds.code import ScriptCode
from mlnb.node.data.merging.merge import Merger, faults_by_name
from mlnb.node.data.outputs import DROPPED
from mlnb.node.data.pickling.building import Rebuilder
from mlnb.node.data.process_state import ProcessState
from mlnb.node.data.sent import ATTRIBUTE, STATE_OF, Path, put_state
from mlnb.node.script.module_values import Attribute, set_attributes
from mlnb.rundir import PROCESS_STATE, RunDir, check_trusted


@dataclass
class Pulled:
    """Outputs, loaded into this process.

    Attributes
    ----------
    values
        by name.
    in_place
        names whose value is the object that the session sent, changed in place by the cell.
    deleted
        names that the cell deleted.
    lost
        names whose values can't be returned.
    missing
        classes and functions that they need and the session lacks.
    notes
        a line for each value that was not returned, with the reason.
    merger
        changes the session's objects.
    states
        definitions of the session, each with what the cell has changed in it.
    attributes
        what it has changed in local modules.
    """

    values: dict[str, Any]
    in_place: frozenset[str] = frozenset()
    deleted: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    merger: Merger | None = None
    states: list[tuple[Any, Mapping[Path, Any]]] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)

    def merge(self) -> None:
        """Change the session's objects as the cell has changed them. Until then, nothing is changed."""
        if self.merger is not None:
            self.merger.apply()
        for definition, state in self.states:
            put_state(definition, state)
        set_attributes(attribute for attribute in self.attributes if attribute[0] in sys.modules)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __repr__(self) -> str:
        names = ", ".join(self.values) or "nothing"
        return "\n".join([f"<pulled: {names}>", *(f"  note: {note}" for note in self.notes)])


def pull(
    run: RunDir,
    link: SessionLink | None = None,
    namespace: dict[str, Any] | None = None,
    script: ScriptCode | None = None,
) -> Pulled:
    """Load the outputs of ``run``.

    Parameters
    ----------
    link
        the session's objects, if this session submitted the run: storages that it sent are updated in place.
    namespace
        has the notebook's classes and functions; by default ``__main__``.
    script
        the code of the run's script, to make functions that the run defined.

    Raises
    ------
    MlnbError
        if the run has left no outputs.
    NotTrusted
        if another user could have written them.
    """
    folder = run.outputs
    stream_file = folder / "session.pickle"
    if not stream_file.exists():
        raise MlnbError(f"run {run.path.name} has left no outputs")
    for path in (run.path, folder, stream_file):
        check_trusted(path)
    table = json.loads((folder / "session.json").read_text())
    stream = objects.Stream(stream_file.read_bytes(), tuple(tuple(location) for location in table["buffers"]))
    missing: set[str] = set()
    merger = Merger(link.labels.objects) if link is not None and link.labels is not None else None
    rebuilder = merger or Rebuilder()
    values: dict[str, Any] = objects.load(
        stream,
        storages.CopiedFiles(run=run.path),
        objects.Labels(),
        sys.modules["__main__"].__dict__ if namespace is None else namespace,
        device=_device(),
        live=link.labels if link else None,
        missing=missing,
        earlier=link.bindings if link else {},
        script=script,
        rebuilder=rebuilder,
    )
    values.pop(DROPPED, None)
    lost = faults_by_name(values, rebuilder, missing)
    loaded = {name: value for name, value in values.items() if name not in lost}
    states = [loaded.pop(name) for name in list(loaded) if name.startswith(STATE_OF)]
    attributes = [loaded.pop(name) for name in list(loaded) if name.startswith(ATTRIBUTE)]
    return Pulled(
        values=loaded,
        states=states,
        attributes=attributes,
        in_place=frozenset(table["kept"]),
        deleted=tuple(table["deleted"]),
        lost=(*table.get("lost", ()), *lost),
        missing=frozenset(missing),
        notes=[*table["notes"], *(_fault_note(run, name, fault, missing) for name, fault in lost.items())],
        merger=merger,
    )


def merge_process_state(run: RunDir, before: ProcessState) -> None:
    """Give this process what the cell has changed in the state of its own; what has changed here since is kept.

    Parameters
    ----------
    before
        this process's state when the run was submitted.

    Raises
    ------
    NotTrusted
        if another user could have written it.
    """
    path = run.outputs / PROCESS_STATE
    if path.exists():
        check_trusted(path)
        process_state.merge(ProcessState.load(path.read_bytes()), before)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _fault_note(run: RunDir, name: str, fault: str, missing: set[str]) -> str:
    weights = run.outputs / f"{name}.safetensors"
    where = f" Its weights are in {weights}." if weights.exists() else ""
    if fault:
        return f"{name} was not returned: it can't be loaded here ({fault}).{where}"
    needed = ", ".join(sorted(missing))
    return f"{name} needs {needed}, not defined here: run the cell that defines it, then pull.{where}"
