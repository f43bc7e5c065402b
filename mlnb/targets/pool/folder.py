"""A pool's folder: its files, and what they say of it. Each file has one writer, as in a run directory."""

from __future__ import annotations

import difflib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb import rundir
from mlnb.errors import UsageError
from mlnb.node.process.identity import is_alive
from mlnb.rundir import RunDir, read_json
from mlnb.targets.config.paths import runs_root
from mlnb.task import Resources

STATES = ("pending", "starting", "running", "closing", "ended")

BEAT = 10.0
"""Seconds between two writings of the state at least."""

_SILENT = 60.0
"""Seconds without one after which a holder on another machine, whose process can't be seen, is taken for dead."""


@dataclass(frozen=True)
class State:
    """What the holder wrote last.

    Attributes
    ----------
    state, reason
        a word of ``STATES``, and why in words.
    holder
        ``pid``, ``identity`` and ``host`` of its process, and its ``socket``.
    jobs
        ids of its jobs.
    scheduler
        where its Dask scheduler listens.
    host
        the node that it has.
    since
        when it was asked for, in seconds since the epoch, as all times here.
    idle
        since when nothing runs on it; ``None`` while something does, or nothing can.
    ends
        when its job's time is over; ``None`` while that isn't known.
    left
        whether the job was left to the runs on it: it ends with the last of them.
    runs
        of each run that it was given: ``state`` (``waiting sent interrupted over``), ``reason``, ``attempt``.
    """

    state: str = "pending"
    reason: str = ""
    holder: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    scheduler: str = ""
    host: str = ""
    since: float = 0.0
    written: float = 0.0
    idle: float | None = None
    ends: float | None = None
    left: bool = False
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class PoolDir:
    """The files of one pool. Knows names and writers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """Its name and something that tells it from earlier ones of that name; needs no quoting."""
        return self.path.name

    @property
    def asked(self) -> Path:
        """Written by whoever starts it: what it is to be."""
        return self.path / "pool.json"

    @property
    def state(self) -> Path:
        """Written by the holder."""
        return self.path / "state.json"

    @property
    def stop(self) -> Path:
        """Written by whoever stops it, once."""
        return self.path / "stop.json"

    @property
    def log(self) -> Path:
        """What the holder prints."""
        return self.path / "holder.log"

    @property
    def job(self) -> RunDir:
        """The same folder as a job of a batch system sees it: ``mlnb.zip``, ``attempts/001/job.sh`` and its log."""
        return RunDir(self.path)

    def credentials(self) -> list[Path]:
        """Certificates and keys of the pool's connections, written by the holder, mode 0600."""
        return [self.path / f"tls-{kind}.pem" for kind in ("ca", "cert", "key")]


class Known:
    """One pool as its files tell of it at this moment."""

    def __init__(self, folder: PoolDir) -> None:
        self.folder = folder
        self.asked = read_json(folder.asked) or {}
        written = read_json(folder.state) or {}
        values = rundir.select_fields(State, written)
        self.written = State(**{**values, "jobs": tuple(values.get("jobs", ()))})

    @property
    def id(self) -> str:
        """See :class:`PoolDir`."""
        return self.folder.id

    @property
    def name(self) -> str:
        """As people call it."""
        return str(self.asked.get("name", self.id))

    @property
    def resources(self) -> Resources:
        """What it has."""
        return Resources(**rundir.select_fields(Resources, self.asked["resources"]))

    @property
    def cores(self) -> int:
        """How many cores it has."""
        return self.resources.ranks * (self.resources.cpus or 1)

    @property
    def held(self) -> bool:
        """Whether its holder lives."""
        holder = self.written.holder
        if not holder:  # being started
            return time.time() - float(self.asked.get("since", 0.0)) < _SILENT
        if holder["host"] != socket.gethostname():
            return time.time() - self.written.written < _SILENT
        return is_alive(int(holder["pid"]), str(holder["identity"]))

    @property
    def state(self) -> str:
        """A word of ``STATES``: that of a pool whose holder died is ``ended``."""
        return self.written.state if self.held else "ended"

    @property
    def reason(self) -> str:
        """Why, in words."""
        if self.written.state == "ended" or self.held:
            return self.written.reason
        return "its holder was killed: nothing new starts on it, and its job ends with the last run that it has"

    @property
    def live(self) -> bool:
        """Whether it is there, or will be."""
        return self.state != "ended"

    @property
    def takes(self) -> bool:
        """Whether it takes runs."""
        return self.state in ("pending", "starting", "running")

    @property
    def busy(self) -> int:
        """How many runs it has that have not ended."""
        return sum(run["state"] != "over" for run in self.written.runs.values())


def root() -> Path:
    """Where the folders are: beside the runs, since the nodes must see them."""
    return runs_root() / ".pools"


def known() -> list[Known]:
    """All pools of this user that have left a folder, newest first."""
    try:
        folders = [Path(entry.path) for entry in os.scandir(root()) if not entry.name.startswith(".")]
    except OSError:
        return []
    found = [Known(PoolDir(path)) for path in folders]
    return sorted((pool for pool in found if pool.asked), key=lambda pool: -float(pool.asked["since"]))


def choose(name: str | None, *, runs: bool = False) -> Known:
    """The pool called ``name``, or the only one there is.

    Parameters
    ----------
    runs
        whether only those count that take runs: an older one may be closing still.

    Raises
    ------
    UsageError
        if there is none, or several without a name.
    """
    there = [pool for pool in known() if (pool.takes if runs else pool.live)]
    if name is not None:
        named = [pool for pool in there if pool.name == name]
        if named:
            return named[0]
    names = [pool.name for pool in there]
    if not there:
        was = next((pool for pool in known() if name in (None, pool.name)), None)
        how = "is closing" if was is not None and was.live else "has ended"
        ended = f" ({was.name} {how}: {was.reason})" if was is not None else ""
        raise UsageError(f"{_said(name)}: there is no pool{ended}; %pool start (mlnb pool start) makes one")
    if name is None:
        if len(there) > 1:
            raise UsageError(f"pool: there are several, {', '.join(names)}; name one, as in pool:{names[0]}")
        return there[0]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{_said(name)}: there is no such pool; there are {', '.join(names)}{hint}")


def _said(name: str | None) -> str:
    return "pool" if name is None else f"pool {name}"
