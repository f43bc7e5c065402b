"""Session and Captured: what capture works on, and its result."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.capture.ship.contents import Bytes, Content
from mlnb.capture.ship.streams import DataStream
from mlnb.node.data import objects
from mlnb.node.data.process_state import ProcessState
from mlnb.rundir import PROCESS_STATE
from mlnb.task import Segment


def identity(text: str) -> str:
    """The cell, unchanged."""
    return text


@dataclass(frozen=True)
class Session:
    """A notebook's session.

    Attributes
    ----------
    namespace
        its names, live (``shell.user_ns``).
    hidden
        names that IPython defines. A mapping (``shell.user_ns_hidden``) also tells whether a name still has IPython's
        value or was assigned by the user.
    history
        the cells that ran (``In``), as they were written or as IPython transformed them; ``history[n]`` is
        cell [n].
    cwd
        its working directory.
    transform
        turns a cell with magics into Python (``shell.transform_cell``).
    extra_builtins
        names that IPython adds to Python's built-in ones.
    executed
        texts with definitions that the session has run by ``exec``, oldest first.
    """

    namespace: dict[str, Any]
    hidden: Collection[str] = frozenset()
    history: Sequence[str] = ()
    cwd: Path = field(default_factory=Path.cwd)
    transform: Callable[[str], str] = identity
    extra_builtins: Collection[str] = frozenset({"display"})
    executed: Sequence[str] = ()

    def has(self, name: str) -> bool:
        """Whether the user, not IPython, has assigned ``name``."""
        if name not in self.namespace:
            return False
        if name not in self.hidden:
            return not (name.startswith("__") and name.endswith("__"))
        if not isinstance(self.hidden, Mapping) or name.startswith("_") or name in ("In", "Out"):
            return False
        return self.hidden[name] is not self.namespace[name]

    def similar(self, name: str) -> str:
        """A hint to a name that the user may have meant; empty without one."""
        near = difflib.get_close_matches(name, [other for other in self.namespace if self.has(other)], n=1)
        return f"Did you mean {near[0]}?" if near else ""


@dataclass(frozen=True)
class PlanItem:
    """A line of the plan: something that is sent with the script.

    Attributes
    ----------
    name
        the session's name for it.
    kind
        ``import``, ``definition``, ``value``, ``data``, ``module``, ``values`` (of a module),
        ``statement`` or ``file``.
    size
        bytes, without the script.
    detail
        a short description.
    """

    name: str
    kind: str
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Captured:
    """A cell and what it needs, ready to be submitted. No data is written, copied or hashed yet.

    Attributes
    ----------
    script
        the program.
    segments
        which cells its lines come from; the last segment is the cell itself.
    streams
        the session's data.
    files
        path in the run directory → local modules and other files.
    module_folders
        name of each local module → the folder that it is imported from.
    inputs
        the session's names whose values are sent and can be changed by the run.
    outputs
        names whose values the run returns.
    deletes
        names that the cell deletes.
    labels
        the session's tensor storages by the label that session and run both use.
    items, notes
        for the plan: what is sent, and what to tell the user.
    bindings
        the functions and classes that are sent, by the names that the script gives them: what the run returns refers
        to them.
    process
        the state of the session's process; of its environment, what the session has set.
    changed_modules
        the session's names of local modules whose attributes the cell assigns.
    """

    script: str
    segments: tuple[Segment, ...]
    streams: tuple[DataStream, ...]
    files: Mapping[str, Content]
    module_folders: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    deletes: tuple[str, ...]
    labels: objects.Labels
    items: tuple[PlanItem, ...]
    notes: tuple[str, ...]
    bindings: Mapping[str, Any]
    process: ProcessState = field(default_factory=ProcessState)
    changed_modules: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are sent, without the script."""
        return sum(stream.size for stream in self.streams) + sum(file.size for file in self.files.values())

    def hashed_contents(self) -> dict[str, Content]:
        """Path in the run directory → content, of everything that is sent besides the script.

        Hashes all data, since data is stored by its hash: call it only when the run is submitted.
        """
        contents = dict(self.files)
        for stream in self.streams:
            contents.update(stream.files())
        if self.process:
            contents[f"inputs/{PROCESS_STATE}"] = Bytes(self.process.dump())
        return contents
