"""The task: what to run. Immutable; its digest is its identity. Standard library only."""

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
    """What a run asks for.

    Attributes
    ----------
    nodes
        machines of the allocation.
    ranks
        training processes on each node.
    gpus
        GPUs on each node; ``None`` lets the target choose.
    cpus
        cores for each rank; ``None`` lets the target choose (and say what it chose).
    memory
        bytes on each node, or ``None`` for no limit of ours.
    time
        walltime in seconds, or ``None`` for no limit of ours.
    gpu_type, gpu_memory, gpu_capability
        which GPUs will do: the kind's name, bytes each has at least, compute capability at least (as in ``8.0``).
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
        """Ranks of the whole run, as torchrun counts them."""
        return self.nodes * self.ranks


@dataclass(frozen=True)
class Segment:
    """Lines of ``script.py`` and where a person wrote them.

    ``count`` lines from ``start`` (1-based) of the script are lines ``origin`` and on of ``source``,
    which reads like ``cell [5]`` or ``train.py``.
    """

    start: int
    count: int
    source: str
    origin: int


@dataclass(frozen=True)
class File:
    """A file that travels with the run: its path in the run directory, SHA-256 and size in bytes."""

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
        inputs and local modules, by content.
    outputs
        names the session wants back; one that the script ends without having bound stays there as it was.
    deletes
        names that the cell deletes: the session loses those that the script ends without.
    inputs
        names that were captured as data, hence may come back changed.
    resources, environment, seed, parallel
        what it needs. ``environment`` has ``image``, ``python``, ``torch``, ``env`` (names only, never values)
        and, for a script that stands in a file, ``file``.
    interactive
        whether the value of the script's last line is shown, as a notebook does.
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

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values."""
        return {**asdict(self), "environment": dict(self.environment)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """The inverse of :meth:`to_json`; unknown keys are left out, so that newer files still read."""
        given = select_fields(cls, data)
        for name in ("argv", "outputs", "deletes", "inputs"):
            given[name] = tuple(given.get(name, ()))
        given["segments"] = tuple(Segment(**select_fields(Segment, one)) for one in given.get("segments", ()))
        given["files"] = tuple(File(**select_fields(File, one)) for one in given.get("files", ()))
        given["resources"] = Resources(**select_fields(Resources, given.get("resources", {})))
        return cls(**given)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON: the task's identity."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
