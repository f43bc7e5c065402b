"""The files of a warm pool, and its state as they describe it. Each file has one writer, as in a run directory."""

from __future__ import annotations

import difflib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlnb import rundir
from mlnb.errors import UsageError
from mlnb.node.process.identity import is_alive
from mlnb.rundir import RunDir, read_json
from mlnb.task import Resources
from mlnb.workspace import Workspace

STATES = ("pending", "starting", "running", "closing", "ended")

HEARTBEAT = 10.0
"""Seconds after which the daemon writes its state again, even if nothing has changed."""

_SILENT = 60.0
"""Seconds without a heartbeat after which a daemon on another machine, whose process can't be seen, counts as dead."""

_FILE_KEYS = {
    "daemon": "holder",
    "written_at": "written",
    "idle_since": "idle",
    "ends_at": "ends",
    "left_to_runs": "left",
}
"""Attributes of :class:`PoolState` that have another name in ``state.json``."""


@dataclass(frozen=True)
class PoolState:
    """What the pool's daemon last wrote. All times are in seconds since the epoch.

    Attributes
    ----------
    state, reason
        one of ``STATES``, and why.
    daemon
        ``pid``, ``identity`` and ``host`` of the daemon, and the path of its ``socket``.
    jobs
        ids of the pool's jobs.
    scheduler
        address of the daemon's Dask scheduler.
    host
        the node that the job runs on.
    since
        when the pool was requested.
    written_at
        when this was written.
    idle_since
        since when the pool has had no run; ``None`` while it has one, or can't run any.
    ends_at
        when the job reaches its time limit; ``None`` while that isn't known.
    left_to_runs
        whether the daemon left the job to the runs on it, so that it ends with the last of them.
    runs
        run id → ``state`` (``waiting``, ``sent``, ``interrupted`` or ``over``), ``reason`` and ``attempt``.
    """

    state: str = "pending"
    reason: str = ""
    daemon: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    scheduler: str = ""
    host: str = ""
    since: float = 0.0
    written_at: float = 0.0
    idle_since: float | None = None
    ends_at: float | None = None
    left_to_runs: bool = False
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``state.json``."""
        return {_FILE_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PoolState:
        """The state that ``state.json`` holds; keys of a newer mlnb are ignored."""
        attributes = {key: name for name, key in _FILE_KEYS.items()}
        values = rundir.select_fields(cls, {attributes.get(key, key): value for key, value in content.items()})
        return cls(**{**values, "jobs": tuple(values.get("jobs", ()))})


class PoolDir:
    """The names of a pool's files, and who writes each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The pool's name and a suffix that no earlier pool of that name has; needs no quoting in a shell."""
        return self.path.name

    @property
    def request(self) -> Path:
        """What was requested; written once by the session that starts the pool."""
        return self.path / "pool.json"

    @property
    def state(self) -> Path:
        """Written by the daemon."""
        return self.path / "state.json"

    @property
    def stop(self) -> Path:
        """Written once, by the process that stops the pool."""
        return self.path / "stop.json"

    @property
    def log(self) -> Path:
        """What the daemon prints."""
        return self.path / "holder.log"

    @property
    def job(self) -> RunDir:
        """The same folder as a batch job uses it: ``mlnb.zip``, ``attempts/001/job.sh`` and its log."""
        return RunDir(self.path)

    def credentials(self) -> list[Path]:
        """Certificates and key of the pool's TLS connections; written by the daemon, mode 0600."""
        return [self.path / f"tls-{kind}.pem" for kind in ("ca", "cert", "key")]


class PoolInfo:
    """A pool as its files describe it at this moment."""

    def __init__(self, folder: PoolDir) -> None:
        self.folder = folder
        self.request = read_json(folder.request) or {}
        self.written = PoolState.from_json(read_json(folder.state) or {})

    @property
    def id(self) -> str:
        """See :class:`PoolDir`."""
        return self.folder.id

    @property
    def name(self) -> str:
        """What follows ``pool:`` in ``--on pool:NAME``."""
        return str(self.request.get("name", self.id))

    @property
    def resources(self) -> Resources:
        """The resources of the pool's job."""
        return Resources(**rundir.select_fields(Resources, self.request["resources"]))

    @property
    def cores(self) -> int:
        """How many cores the pool's job has."""
        return self.resources.ranks * (self.resources.cpus or 1)

    @property
    def daemon_alive(self) -> bool:
        """Whether the daemon lives, or is being started."""
        daemon = self.written.daemon
        if not daemon:  # being started
            return time.time() - float(self.request.get("since", 0.0)) < _SILENT
        if daemon["host"] != socket.gethostname():
            return time.time() - self.written.written_at < _SILENT
        return is_alive(int(daemon["pid"]), str(daemon["identity"]))

    @property
    def state(self) -> str:
        """One of ``STATES``; ``ended`` if the daemon died, whatever it wrote last."""
        return self.written.state if self.daemon_alive else "ended"

    @property
    def reason(self) -> str:
        """Why the pool is in this state."""
        if self.written.state == "ended" or self.daemon_alive:
            return self.written.reason
        return "its daemon was killed: it starts no more runs, and its job ends with the last run on it"

    @property
    def live(self) -> bool:
        """Whether the pool has not ended."""
        return self.state != "ended"

    @property
    def accepts_runs(self) -> bool:
        """Whether runs can be submitted to it."""
        return self.state in ("pending", "starting", "running")

    @property
    def active_runs(self) -> int:
        """How many of its runs have not ended."""
        return sum(run["state"] != "over" for run in self.written.runs.values())


def pools_root(workspace: Workspace) -> Path:
    """The folder of all pools' folders: beside the runs, since the nodes must see both."""
    return workspace.root / ".pools"


def all_pools(workspace: Workspace) -> list[PoolInfo]:
    """All pools of a workspace whose folder still exists, newest first."""
    try:
        folders = [Path(entry.path) for entry in os.scandir(pools_root(workspace)) if not entry.name.startswith(".")]
    except OSError:
        return []
    pools = [PoolInfo(PoolDir(path)) for path in folders]
    return sorted((pool for pool in pools if pool.request), key=lambda pool: -float(pool.request["since"]))


def find_pool(name: str | None, workspace: Workspace, *, accepting: bool = False) -> PoolInfo:
    """The live pool called ``name``; without a name, the only live pool.

    Parameters
    ----------
    accepting
        consider only pools that accept runs; an older one of the same name may still be closing.

    Raises
    ------
    UsageError
        if there is none, or if there are several and no name is given.
    """
    pools = all_pools(workspace)
    candidates = [pool for pool in pools if (pool.accepts_runs if accepting else pool.live)]
    if name is not None:
        named = [pool for pool in candidates if pool.name == name]
        if named:
            return named[0]
    names = [pool.name for pool in candidates]
    if not candidates:
        last = next((pool for pool in pools if name in (None, pool.name)), None)
        end = "is closing" if last is not None and last.live else "has ended"
        ended = f" ({last.name} {end}: {last.reason})" if last is not None else ""
        missing = "There is no pool" if name is None else f"No pool named {name}"
        raise UsageError(f"{missing}{ended}. Start one with %pool start (mlnb pool start).")
    if name is None:
        if len(candidates) > 1:
            raise UsageError(f"There are several pools: {', '.join(names)}. Name one, as in pool:{names[0]}.")
        return candidates[0]
    near = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"No pool named {name}.{hint} Available: {', '.join(names)}.")
