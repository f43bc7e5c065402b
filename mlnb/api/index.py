"""An index of the runs in a folder, by id and name. An update reads only runs that have changed since the last one.

The index is a cache: the run directories are the only truth. A run directory that is added or removed changes the
folder's modification time. A run whose name or target changes, as when it is resumed, is recorded as a line of
``.index/changed``. Only new and recorded runs are read. The index is saved in ``.index/runs.json``, so that a new
process need not read all runs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mlnb.errors import StorageError
from mlnb.rundir import RunDir, read_json, revalidate_directory, select_fields, write_json
from mlnb.runinfo import RunInfo

_FOLDER = ".index"
"""A separate folder, so that writing to it does not change the modification time of the folder of runs."""

_CHANGED, _CACHE = "changed", "runs.json"
_WORTH_SAVING = 20
"""How many new runs there must be before the cache is written again: reading fewer costs less than writing it."""

_COARSE = 2_000_000_000
"""Nanoseconds: the resolution of some file systems' timestamps; a second change within it may leave the same one."""


@dataclass(frozen=True)
class Entry:
    """What the index holds of a run; ``submitted`` is in seconds since the epoch. Lists leave a ``hidden`` one out."""

    id: str
    name: str
    target: str
    submitted: float
    hidden: bool = False


class Index:
    """The runs in ``root``. May be used from any thread.

    Parameters
    ----------
    root
        the folder of the run directories; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[str, Entry] = {}
        self._newest_first: tuple[Entry, ...] = ()
        self._listed: tuple[Entry, ...] = ()
        self._state: tuple[int, int] | None = None
        self._read_changes = 0
        self._unsaved = 0
        self._loaded = False
        self._lock = threading.Lock()

    def entries(self, *, hidden: bool = False) -> tuple[Entry, ...]:
        """All runs, newest first; also the hidden ones if asked for."""
        with self._lock:
            self._update()
            return self._newest_first if hidden else self._listed

    def names(self) -> list[str]:
        """The names of the runs, each once, that of the newest run first."""
        return list(dict.fromkeys(entry.name for entry in self.entries()))

    def named(self, name: str) -> Entry | None:
        """The newest run of that name, which may be hidden."""
        return next((entry for entry in self.entries(hidden=True) if entry.name == name), None)

    def _update(self) -> None:
        state = self._now()
        if state is None:
            self._entries, self._newest_first, self._listed, self._state = {}, (), (), None
            return
        if state == self._state:
            return
        if not self._loaded:
            self._load()
        existing = {entry.name for entry in os.scandir(self.root) if entry.name[:1].isdigit()}
        removed = self._entries.keys() - existing
        for run_id in removed:
            del self._entries[run_id]
        added = self._add(existing - self._entries.keys())
        changed = self._add(self._changes() & existing)
        if removed or added or changed or not self._newest_first:
            order = sorted(self._entries.values(), key=lambda entry: (entry.submitted, entry.id), reverse=True)
            self._newest_first = tuple(order)
            self._listed = tuple(entry for entry in order if not entry.hidden)
        self._unsaved += added + changed
        if self._unsaved >= _WORTH_SAVING:
            self._save()
        # a change within the clock's resolution may leave the same time: then read again next time
        self._state = state if time.time_ns() - state[0] > _COARSE else None

    def _now(self) -> tuple[int, int] | None:
        """The folder's modification time in nanoseconds, and the size of ``changed``; ``None`` without a folder."""
        if not revalidate_directory(self.root):
            return None
        changes = 0
        with contextlib.suppress(OSError):
            changes = (self.root / _FOLDER / _CHANGED).stat().st_size
        with contextlib.suppress(OSError):
            return self.root.stat().st_mtime_ns, changes
        return None

    def _add(self, run_ids: Iterable[str]) -> int:
        """Read these runs. Returns how many of them exist: a directory without ``run.json`` is no run."""
        count = 0
        for run_id in run_ids:
            file = RunDir(self.root / run_id).run
            values = read_json(file)
            if values is not None or file.exists():  # a run.json that can't be parsed is still a run
                info = RunInfo.from_json(values or {}, run_id)
                self._entries[run_id] = Entry(run_id, info.name, info.target, info.submitted, info.hidden)
                count += 1
        return count

    def _changes(self) -> set[str]:
        """The runs that were recorded as changed since the last call."""
        try:
            with (self.root / _FOLDER / _CHANGED).open("rb") as file:
                file.seek(self._read_changes)
                data = file.read()
        except OSError:
            return set()
        complete_lines = data[: data.rfind(b"\n") + 1]  # the rest is being written
        self._read_changes += len(complete_lines)
        return set(complete_lines.decode(errors="replace").split())

    def _load(self) -> None:
        self._loaded = True
        cache = read_json(self.root / _FOLDER / _CACHE) or {}
        with contextlib.suppress(TypeError, ValueError, AttributeError):  # of another version: all runs are read again
            for values in cache.get("runs", ()):
                entry = Entry(**select_fields(Entry, values))
                self._entries[entry.id] = entry
            self._read_changes = int(cache.get("changes", 0))

    def _save(self) -> None:
        runs = [asdict(entry) for entry in self._entries.values()]
        with contextlib.suppress(OSError, StorageError):
            (self.root / _FOLDER).mkdir(mode=0o700, exist_ok=True)
            write_json(self.root / _FOLDER / _CACHE, {"changes": self._read_changes, "runs": runs})
            self._unsaved = 0


def record_change(run: RunDir) -> None:
    """Record for all indexes that ``run.json`` of a run was replaced."""
    folder = run.path.parent / _FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(folder / _CHANGED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{run.path.name}\n".encode())
        finally:
            os.close(file)
