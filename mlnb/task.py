"""The task: an immutable description of what to run, identified by its digest. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from mlnb.rundir import select_fields


@dataclass(frozen=True)
class Resources:
    """The resources that a run requests.

    Attributes
    ----------
    nodes
        number of machines.
    ranks
        training processes on each node.
    gpus
        GPUs on each node; ``None`` lets the target choose.
    cpus
        CPU cores for each rank; ``None`` lets the target choose.
    memory
        bytes on each node; ``None`` for no limit by mlnb.
    time
        walltime in seconds; ``None`` for no limit by mlnb.
    gpu_type, gpu_memory, gpu_capability
        which GPUs are acceptable: model, minimum bytes of memory each, minimum compute capability (as ``8.0``).
    """

    nodes: int = 1
    ranks: int = 1
    gpus: int | None = 0
    cpus: int | None = None
    memory: int | None = None
    time: int | None = None
    gpu_type: str | None = None
    gpu_memory: int | None = None
    gpu_capability: str | None = None

    @property
    def world_size(self) -> int:
        """Number of ranks on all nodes."""
        return self.nodes * self.ranks


@dataclass(frozen=True)
class Segment:
    """Where some lines of ``script.py`` come from.

    The script's ``count`` lines from ``start`` (1-based) are the lines from ``origin`` (1-based) of ``source``: a cell,
    ``cell [5]``, or a file, ``train.py``.
    """

    start: int
    count: int
    source: str
    origin: int


@dataclass(frozen=True)
class File:
    """An input file of the run: its path in the run directory, SHA-256 digest, and size in bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Task:
    """What to run: code, inputs, outputs, resources, environment, seed.

    Attributes
    ----------
    script
        the text of ``script.py``.
    argv
        arguments after the script's name.
    segments
        where the script's lines come from, for tracebacks.
    files
        data and local modules, identified by their content.
    outputs
        names whose values come back into the session; one that the script doesn't bind keeps its value there.
    deletes
        names that the cell deletes. They are deleted in the session, too, unless they are bound when the script ends.
    inputs
        names whose values were sent as data, and may be changed by the script.
    resources, environment, seed, parallel
        how it runs. ``environment`` has ``image``, ``python``, ``torch``, ``env`` (names only, never values),
        ``module_folders`` (local module → the folder that it is imported from) and, for a session, ``import_path``
        (its further folders of modules); for a script that the user has in a file, ``file``, and ``module`` if it is
        run as a module.
    interactive
        whether the value of the script's last line is displayed, as in a notebook.
    returns_more
        whether other names that the cell binds come back, too: those that its syntax doesn't show.
    params
        what sets this task apart from others made of the same code: name → JSON value.
    sweep
        the id of the sweep that the task belongs to, if it does.
    """

    script: str
    argv: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    files: tuple[File, ...] = ()
    outputs: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    environment: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    parallel: str = "auto"
    interactive: bool = False
    returns_more: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    sweep: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values; those that only some tasks have are left out of others."""
        values = {**asdict(self), "environment": dict(self.environment), "params": dict(self.params)}
        return {name: value for name, value in values.items() if value or name not in _OPTIONAL}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """The inverse of :meth:`to_json`. Unknown keys, as in files of a newer mlnb, are ignored."""
        values = select_fields(cls, data)
        for name in ("argv", "outputs", "deletes", "inputs"):
            values[name] = tuple(values.get(name, ()))
        values["segments"] = tuple(Segment(**select_fields(Segment, item)) for item in values.get("segments", ()))
        values["files"] = tuple(File(**select_fields(File, item)) for item in values.get("files", ()))
        values["resources"] = Resources(**select_fields(Resources, values.get("resources", {})))
        return cls(**values)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the task's canonical JSON (sorted keys, no spaces), in hexadecimal."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_OPTIONAL = ("params", "sweep", "returns_more")
