"""A mirror that copies files: the new end of files that are appended to, and replaced files when they have changed.

Kernel, server and command line all refresh the same copy. A lock in the run directory lets one of them write at a time;
the lock file's time of change is when one of them last queried the remote side. The length of a copy is how much of an
appended file was copied. Replaced files are recorded in ``.mirror.json`` by their remote size and time of change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mlnb import manifest
from mlnb.errors import MlnbError, NotTrusted, storage_errors
from mlnb.rundir import RunDir, read_json, temporary_path, write_json
from mlnb.targets.mirror.base import Entry, Transport

INTERVAL = 0.5
"""Seconds between two requests for the same run, by default."""

_APPENDED = (".jsonl", ".metrics", ".out", ".err", ".log")
_RESULT = "result.json"
_STATE, _LOCK = ".mirror.json", ".mirror.lock"
_ROUNDS, _PAUSE = 5, 0.1
"""How many times a part is copied if it is replaced meanwhile, and the seconds between two tries."""


class CopyMirror:
    """See :class:`mlnb.targets.mirror.base.Mirror`.

    Parameters
    ----------
    transport
        reads and writes the remote files.
    interval
        seconds between two requests for the same run.
    """

    def __init__(self, transport: Transport, interval: float = INTERVAL) -> None:
        self._transport, self._interval = transport, interval

    # to the remote side

    def push(self, run: RunDir, files: Sequence[str]) -> None:
        """See the class."""
        with _described(run, "files can't be sent to its target"):
            for path in files:
                if (run.path / path).exists():
                    self._transport.write(run.path.name, path, run.path / path)
                else:
                    self._transport.delete(run.path.name, path)

    def signal(self, run: RunDir, name: str) -> None:
        """See the class."""
        with _described(run, f"the signal {name} can't be sent to its job"):
            self._transport.write(run.path.name, f"{name}.json", run.path / f"{name}.json")

    def remove(self, run: RunDir) -> None:
        """See the class."""
        with _described(run, "its files at the target can't be deleted"):
            self._transport.remove(run.path.name)

    # from the remote side

    def refresh(self, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
        """See the class."""
        due = [run for run in runs if at_once or self._is_due(run)]
        if not due:
            return
        with _described(due[0], "its target does not answer"):
            listings = self._transport.listing([run.path.name for run in due])
            for run in due:
                with _locked(run, wait=at_once) as locked:
                    if locked:
                        self._copy_live_files(run, listings.get(run.path.name, {}))

    def fetch(self, run: RunDir, part: str) -> None:
        """See the class."""
        if _MirrorState(run).is_complete(part, len(run.attempts())):
            return
        with _described(run, "its target does not answer"), _locked(run, wait=True):
            for rounds_left in reversed(range(_ROUNDS)):
                try:
                    self._copy_part(run, part)
                    return
                except (FileNotFoundError, _Mismatch) as error:  # replaced while it was copied, as checkpoints are
                    if not rounds_left:
                        text = f"{part} of run {run.path.name} are not what the run wrote ({error}); not loaded."
                        raise NotTrusted(text) from None
                    time.sleep(_PAUSE)

    def _is_due(self, run: RunDir) -> bool:
        """Whether no process has queried the remote side within the interval."""
        try:
            return time.time() - (run.path / _LOCK).stat().st_mtime >= self._interval
        except FileNotFoundError:
            return run.path.exists()

    @staticmethod
    def _may_change(run: RunDir) -> bool:
        """Whether the remote files may still change."""
        return int((read_json(run.result) or {}).get("attempt", 0)) < len(run.attempts())

    def _copy_live_files(self, run: RunDir, listed: Mapping[str, Entry]) -> None:
        if _RESULT in listed:  # it is written last: a listing made after it exists has all earlier files
            listed = self._transport.listing([run.path.name]).get(run.path.name, {})
        copied = _MirrorState(run)
        for path, entry in sorted(listed.items()):
            if path != _RESULT and _is_live(path):
                self._copy_file(run, path, entry, copied)
        if _RESULT in listed:
            self._copy_file(run, _RESULT, listed[_RESULT], copied)
        copied.save()

    def _copy_file(self, run: RunDir, path: str, entry: Entry, copied: _MirrorState) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was removed since the listing
            if path.endswith(_APPENDED):
                local_size = _size(run.path / path)
                if entry.size < local_size:  # the remote file was started again
                    _replace(run, path, self._read(run, path))
                elif entry.size > local_size or not (run.path / path).exists():  # an empty file shows a rank
                    _append(run, path, self._read(run, path, local_size))
            elif copied.differs(path, entry):
                _replace(run, path, self._read(run, path))
                copied.record(path, entry)

    def _copy_part(self, run: RunDir, part: str) -> None:
        complete = not self._may_change(run)  # determined first: a later listing then has all files
        listed = self._transport.listing([run.path.name]).get(run.path.name, {})
        copied = _MirrorState(run)
        if part == "figures":
            for path, entry in listed.items():
                if _is_figure(path):
                    self._copy_file(run, path, entry, copied)
        else:
            self._copy_signed_files(run, part, listed, copied, complete=complete)
        copied.complete(part, len(run.attempts()) if complete else 0)
        copied.save()

    def _copy_signed_files(
        self, run: RunDir, part: str, listed: Mapping[str, Entry], copied: _MirrorState, *, complete: bool
    ) -> None:
        """Copy the files that the signed lists of a folder name, and no others."""
        entries = {
            _name(path): entry
            for path, entry in listed.items()
            if path == f"{part}/{_name(path)}" and not path.endswith(".tmp")
        }
        lists = [name for name in entries if name.startswith("manifest") and name.endswith(".json")]
        if entries and not lists and complete:
            raise NotTrusted(f"{part} of run {run.path.name} at its target are not signed, so they are not loaded.")
        digests: dict[str, str] = {}
        for name in lists:
            digests |= manifest.parse(b"".join(self._read(run, f"{part}/{name}")), part, run.read_key())
        for name, sha256 in digests.items():
            path = f"{part}/{name}"
            if name != _name(path) or name not in entries:
                raise FileNotFoundError(path)
            if copied.differs(path, entries[name]):
                _replace(run, path, self._read(run, path), sha256)
                copied.record(path, entries[name])
        folder = run.path / part
        for old in folder.iterdir() if folder.is_dir() else ():
            if old.name not in digests:
                old.unlink()  # the remote file was removed, as old checkpoints are

    def _read(self, run: RunDir, path: str, offset: int = 0) -> Iterator[bytes]:
        return self._transport.read(run.path.name, path, offset)


class _MirrorState:
    """What has been copied: replaced files by their remote size and time of change, and which parts are complete."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        state = read_json(run.path / _STATE) or {}
        self._entries: dict[str, list[int]] = dict(state.get("files", {}))
        self._complete: dict[str, int] = dict(state.get("complete", {}))  # attempt by part
        self._changed = False

    def differs(self, path: str, entry: Entry) -> bool:
        """Whether this version of the remote file was not copied yet."""
        return self._entries.get(path) != list(entry) or not (self._run.path / path).exists()

    def record(self, path: str, entry: Entry) -> None:
        """Record that a file was copied."""
        self._entries[path] = list(entry)
        self._changed = True

    def is_complete(self, part: str, attempts: int) -> bool:
        """Whether a part was copied in full after the last of so many attempts had ended."""
        return self._complete.get(part) == attempts

    def complete(self, part: str, attempt: int) -> None:
        """Record that a part is complete after this attempt; 0 if it is not."""
        if self._complete.get(part, 0) != attempt:
            self._complete[part] = attempt
            self._changed = True

    def save(self) -> None:
        """Write the state, if it has changed."""
        if self._changed:
            write_json(self._run.path / _STATE, {"files": self._entries, "complete": self._complete})


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _is_live(path: str) -> bool:
    """Whether a file is copied as it is written: those of attempts, except figures. Accepts no path out of the run."""
    parts = PurePosixPath(path).parts
    return len(parts) == 3 and parts[0] == "attempts" and parts[1].isdigit() and not parts[2].startswith(".")


def _is_figure(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) == 4 and _is_live("/".join((*parts[:2], parts[3]))) and parts[2] == "figures"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(run: RunDir, path: str, pieces: Iterator[bytes]) -> None:
    target = run.path / path
    with storage_errors(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(target, "ab", opener=_private) as file:
            for piece in pieces:
                file.write(piece)


def _replace(run: RunDir, path: str, pieces: Iterator[bytes], sha256: str | None = None) -> None:
    """Write a local file atomically, if its content has this digest.

    Raises
    ------
    _Mismatch
        if it has another digest.
    """
    target = run.path / path
    temporary = temporary_path(target)
    with storage_errors(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(temporary, "wb", opener=_private) as file:
                for piece in pieces:
                    file.write(piece)
            if sha256 is not None and manifest.digest(temporary) != sha256:
                raise _Mismatch(path)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class _Mismatch(Exception):
    """A file does not match the signed list: it was replaced a moment ago, or the run did not write it."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _locked(run: RunDir, *, wait: bool = False) -> Iterator[bool]:
    """Lock the copy for writing. Yields whether that succeeded; with ``wait`` it always does."""
    with open(run.path / _LOCK, "ab", opener=_private) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
            os.utime(run.path / _LOCK)


@contextlib.contextmanager
def _described(run: RunDir, failure: str) -> Iterator[None]:
    """Raise errors of the transport as :class:`MlnbError`, with the run and what failed."""
    try:
        yield
    except OSError as error:
        raise MlnbError(f"run {run.path.name}: {failure}: {error.strerror or error}") from error
