"""What capture is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.capture.ship.contents import Bytes, Content
from mlnb.capture.ship.streams import DataStream
from mlnb.node.data import objects
from mlnb.task import Segment


def identity(text: str) -> str:
    """Leave a cell as it is."""
    return text


@dataclass(frozen=True)
class Session:
    """A notebook's session.

    Attributes
    ----------
    namespace
        its names, live (``shell.user_ns``).
    hidden
        names that IPython itself put there. A mapping (``shell.user_ns_hidden``) also tells whether a name still
        has IPython's value, or was bound by the person.
    history
        the cells that ran (``In``), as they were written or as IPython transformed them; ``history[n]`` is
        cell [n].
    cwd
        its working directory.
    transform
        makes Python of a cell with magics (``shell.transform_cell``).
    extra
        names that are built in there beyond Python's own.
    """

    namespace: dict[str, Any]
    hidden: Collection[str] = frozenset()
    history: Sequence[str] = ()
    cwd: Path = field(default_factory=Path.cwd)
    transform: Callable[[str], str] = identity
    extra: Collection[str] = frozenset({"display"})

    def has(self, name: str) -> bool:
        """Whether the person, not IPython, has bound ``name``."""
        if name not in self.namespace:
            return False
        if name not in self.hidden:
            return not (name.startswith("__") and name.endswith("__"))
        if not isinstance(self.hidden, Mapping) or name.startswith("_") or name in ("In", "Out"):
            return False
        return self.hidden[name] is not self.namespace[name]


@dataclass(frozen=True)
class Definition:
    """An import, ``def``, ``class`` or ``name = lambda`` at a cell's top level.

    Attributes
    ----------
    names
        what it binds.
    source
        the statement.
    line
        the cell's line where it starts.
    """

    names: tuple[str, ...]
    source: str
    line: int


@dataclass(frozen=True)
class Item:
    """A line of the plan: something that goes along.

    Attributes
    ----------
    name
        the session's name for it.
    kind
        ``import``, ``definition``, ``value``, ``data``, ``module`` or ``file``.
    size
        bytes beside the script.
    detail
        what it is, in a few words.
    """

    name: str
    kind: str
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Captured:
    """A cell and what it needs, ready to be submitted. Nothing is written and no bulk is copied or hashed yet.

    Attributes
    ----------
    script
        the program.
    segments
        where its lines were written; the last one is the cell itself.
    streams
        the session's data.
    files
        path in the run directory → local modules and other files.
    inputs
        the session's names whose values went along and can be changed there.
    outputs
        names that the session wants back.
    shared
        other names of the session that share memory with outputs, and so change when these come back.
    deletes
        names that the cell deletes.
    labels
        the session's storages by the label that both sides know.
    definitions
        what the session itself runs afterwards.
    items, notes
        for the plan: what goes along, and what the person should know.
    bindings
        names that only the script has, for functions and classes that the session knows by no name of its own:
        needed beside the session's names to load what comes back.
    """

    script: str
    segments: tuple[Segment, ...]
    streams: tuple[DataStream, ...]
    files: Mapping[str, Content]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]
    deletes: tuple[str, ...]
    labels: objects.Labels
    definitions: tuple[Definition, ...]
    items: tuple[Item, ...]
    notes: tuple[str, ...]
    bindings: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes that go along beside the script; known without hashing anything."""
        return sum(stream.size for stream in self.streams) + sum(file.size for file in self.files.values())

    @property
    def contents(self) -> dict[str, Content]:
        """Everything that goes along beside the script, nothing hashed: bulk data under provisional paths."""
        found = dict(self.files)
        for stream in self.streams:
            found[f"inputs/{stream.number}.pickle"] = Bytes(stream.stream.data)
            found.update({f"inputs/{stream.number}.blob-{i}": blob for i, blob in enumerate(stream.blobs)})
        return found

    def finish(self) -> dict[str, Content]:
        """Path in the run directory → content, of everything that goes along beside the script.

        Hashes the bulk, since data is stored by content: ask for it when the run is submitted.
        """
        found = dict(self.files)
        for stream in self.streams:
            found.update(stream.files())
        return found
