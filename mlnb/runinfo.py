"""The content of ``run.json``: who submitted a run, where it runs, and what its node programs have to know.

Standard library only. Files of older versions of mlnb can be read, too; keys that only a newer one knows are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mlnb.rundir import RunDir, read_json, select_fields, write_json

SCHEMA = 2
"""The version of ``run.json``. In version 1 all values stood side by side, those of every target included."""

GRACE = 10.0
"""Seconds a rank has between SIGTERM and SIGKILL, if the target says nothing else."""

RENDEZVOUS_TIMEOUT = 300.0
"""Seconds that the nodes of a run have to find each other, if the target says nothing else."""


@dataclass(frozen=True)
class NodeSettings:
    """What a node program has to know about its run, in addition to the task.

    Attributes
    ----------
    grace
        seconds a rank has between SIGTERM and SIGKILL.
    threads
        cores for each rank.
    rendezvous_timeout
        seconds that the nodes have to find each other.
    requeue
        whether the run may be queued again.
    chosen
        the names of the resources that the user did not request: the target chose them.
    queue
        what the run needs of the machine's local queue, and where that is (:mod:`mlnb.node.process.local_queue`);
        ``None`` where the target hands out cores and GPUs itself.
    queued_outside
        whether a process outside of the run's container waits in that queue, so that the node program need not.
    """

    grace: float = GRACE
    threads: int = 1
    rendezvous_timeout: float = RENDEZVOUS_TIMEOUT
    requeue: bool = False
    chosen: tuple[str, ...] = ()
    queue: Mapping[str, Any] | None = None
    queued_outside: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NodeSettings:
        """The inverse of ``asdict``."""
        given = select_fields(cls, data)
        return cls(**{**given, "chosen": tuple(given.get("chosen", ()))})

    def queue_request(self, override: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the node program requests of which local queue; empty if it need not wait in one.

        Parameters
        ----------
        override
            values that replace those of :attr:`queue`: a pool's.
        """
        own = {} if self.queued_outside else self.queue or {}
        return {**own, **(override or {})}


@dataclass(frozen=True)
class RunInfo:
    """Information about one run, as of when it was submitted or last resumed.

    Attributes
    ----------
    id, name, target
        the run's id, its name, and the target that it was submitted to.
    task
        the digest of its task.
    submitted
        when it was submitted first, in seconds since the epoch.
    user, host, pid, cwd
        who submitted it, on which machine, from which process and folder.
    mirrored
        whether the run directory is a copy of one elsewhere (:mod:`mlnb.targets.mirror`).
    resume
        the folder of another run's checkpoints that it starts from, if it does; absolute, or relative to the run
        directory.
    cell, git
        the number of its cell, and the state of the git repository that it was submitted in.
    seed
        drawn when it was submitted, for the generators of its ranks, if neither the task nor the session has a state
        for them. ``None`` in files of versions that did not draw one.
    asked
        the options that the user gave, by key. They apply again when the run is resumed. ``None`` in files of versions
        that did not write them.
    hidden
        whether lists and completion leave it out: a run that mlnb itself has made, as a check.
    node
        for its node programs.
    placement
        what its target has chosen; each kind of target has its own keys.
    """

    id: str
    name: str = ""
    target: str = "local"
    task: str = ""
    submitted: float = 0.0
    user: str = ""
    host: str = ""
    pid: int = 0
    cwd: str = ""
    mirrored: bool = False
    resume: str | None = None
    cell: int | None = None
    git: Mapping[str, Any] | None = None
    seed: int | None = None
    asked: Mapping[str, Any] | None = None
    hidden: bool = False
    node: NodeSettings = field(default_factory=NodeSettings)
    placement: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, run: RunDir) -> RunInfo:
        """The information about ``run``; defaults, except for the id, if its file is missing or can't be parsed."""
        return cls.from_json(read_json(run.run) or {}, run.path.name)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], run_id: str) -> RunInfo:
        """The content of ``run.json`` of the run ``run_id``, of this version or an older one; else defaults."""
        try:
            return cls._parse(data, run_id)
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls(run_id, run_id)

    @classmethod
    def _parse(cls, data: Mapping[str, Any], run_id: str) -> RunInfo:
        values = data if data.get("schema", 1) >= SCHEMA else _convert_version_1(data)
        given = {name: value for name, value in select_fields(cls, values).items() if value is not None}
        given["node"] = NodeSettings.from_json(given.get("node", {}))
        for name, kind in _KINDS.items():
            if not isinstance(given.get(name, kind()), (kind, int) if kind is float else kind):
                del given[name]
        given.setdefault("name", run_id)
        return cls(**{**given, "id": run_id})

    def write(self, run: RunDir, *, durable: bool = False) -> None:
        """Replace ``run.json`` atomically; see :func:`mlnb.rundir.write_atomic`.

        Raises
        ------
        StorageError
            if it can't be written.
        """
        write_json(run.run, self.to_json(), durable=durable)

    def to_json(self) -> dict[str, Any]:
        """The content of ``run.json``; what is ``None`` is left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {"schema": SCHEMA, **values}


_KINDS: dict[str, type] = {"name": str, "target": str, "cwd": str, "submitted": float}
"""Types of the fields that all listings show; a value of another type counts as missing."""

_OLD_NODE = {
    "grace": "grace",
    "threads": "threads",
    "gather": "rendezvous_timeout",
    "requeue": "requeue",
    "chosen": "chosen",
    "slots": "queue",
}
"""Names that version 1 had for the fields of :class:`NodeSettings`."""


def _convert_version_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Sort values that stood side by side into those of the run, of its node programs and of its target."""
    node = {new: data[old] for old, new in _OLD_NODE.items() if data.get(old) is not None}
    own = {item.name for item in fields(RunInfo)} - {"node", "placement"}
    moved = {*own, *_OLD_NODE, "placed", "container_slots"} - {"requeue"}  # --resume asks for it again
    rest = {name: value for name, value in data.items() if name not in moved}
    if data.get("container_slots"):
        node |= {"queue": data["container_slots"], "queued_outside": True}
    return {**{name: value for name, value in data.items() if name in own}, "node": node, "placement": rest}
