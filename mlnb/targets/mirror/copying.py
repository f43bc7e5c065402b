"""A mirror that copies: what is appended from where the copy ends, what is replaced when it has changed.

Kernel, server and command line all refresh the same copy. A lock in the run directory lets one of them write at a time,
and the lock file's time of change says when one of them has last looked. How far an appended file was copied is how
long the copy is. What is replaced is remembered by size and time of change at the other end, in ``.mirror.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mlnb import manifest
from mlnb.errors import MlnbError, NotTrusted
from mlnb.rundir import RunDir, read_json, storage_errors, temporary_path, write_json
from mlnb.targets.mirror.base import Entry, Transport

INTERVAL = 0.5
"""Seconds between two looks at the other end for the same run, unless a mirror is made with another."""

_APPENDED = (".jsonl", ".metrics", ".out", ".err", ".log")
_RESULT = "result.json"
_STATE, _LOCK = ".mirror.json", ".mirror.lock"
_ROUNDS, _PAUSE = 5, 0.1
"""How often, and after how many seconds again, what was replaced while it was copied is copied anew."""


class CopyMirror:
    """See :class:`mlnb.targets.mirror.base.Mirror`.

    Parameters
    ----------
    transport
        how files at the other end are read and written.
    interval
        seconds between two looks at the other end for the same run.
    """

    def __init__(self, transport: Transport, interval: float = INTERVAL) -> None:
        self._transport, self._interval = transport, interval

    # to the other end

    def push(self, run: RunDir, files: Sequence[str]) -> None:
        """See the class."""
        with _one_line(run, "files can't be sent to its target"):
            for path in files:
                if (run.path / path).exists():
                    self._transport.write(run.path.name, path, run.path / path)
                else:
                    self._transport.delete(run.path.name, path)

    def signal(self, run: RunDir, name: str) -> None:
        """See the class."""
        with _one_line(run, f"its job can't be told ({name})"):
            self._transport.write(run.path.name, f"{name}.json", run.path / f"{name}.json")

    def remove(self, run: RunDir) -> None:
        """See the class."""
        with _one_line(run, "its files at the target can't be deleted"):
            self._transport.remove(run.path.name)

    # from there

    def refresh(self, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
        """See the class."""
        due = [run for run in runs if at_once or self._is_due(run)]
        if not due:
            return
        with _one_line(due[0], "its target does not answer"):
            listings = self._transport.listing([run.path.name for run in due])
            for run in due:
                with _locked(run, wait=at_once) as mine:
                    if mine:
                        self._bring_live(run, listings.get(run.path.name, {}))

    def fetch(self, run: RunDir, part: str) -> None:
        """See the class."""
        if _Copied(run).is_complete(part, len(run.attempts())):
            return
        with _one_line(run, "its target does not answer"), _locked(run, wait=True):
            for rounds_left in reversed(range(_ROUNDS)):
                try:
                    self._bring_part(run, part)
                    return
                except (FileNotFoundError, _Mismatch) as error:  # replaced while it was copied, as checkpoints are
                    if not rounds_left:
                        text = f"{part} of run {run.path.name} are not what the run wrote ({error}): nothing is loaded."
                        raise NotTrusted(text) from None
                    time.sleep(_PAUSE)

    def _is_due(self, run: RunDir) -> bool:
        """Whether nobody, in whatever process, has looked at the other end for a while."""
        try:
            return time.time() - (run.path / _LOCK).stat().st_mtime >= self._interval
        except FileNotFoundError:
            return run.path.exists()

    @staticmethod
    def _goes_on(run: RunDir) -> bool:
        """Whether the other end may still change."""
        return int((read_json(run.result) or {}).get("attempt", 0)) < len(run.attempts())

    def _bring_live(self, run: RunDir, listed: Mapping[str, Entry]) -> None:
        if _RESULT in listed:  # it is written last: a listing made after it was seen has all that came before
            listed = self._transport.listing([run.path.name]).get(run.path.name, {})
        copied = _Copied(run)
        for path, entry in sorted(listed.items()):
            if path != _RESULT and _is_live(path):
                self._bring(run, path, entry, copied)
        if _RESULT in listed:
            self._bring(run, _RESULT, listed[_RESULT], copied)
        copied.save()

    def _bring(self, run: RunDir, path: str, entry: Entry, copied: _Copied) -> None:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if path.endswith(_APPENDED):
                have = _size(run.path / path)
                if entry.size < have:  # begun anew at the other end
                    _replace(run, path, self._read(run, path))
                elif entry.size > have or not (run.path / path).exists():  # an empty file says that there is a rank
                    _append(run, path, self._read(run, path, have))
            elif copied.differs(path, entry):
                _replace(run, path, self._read(run, path))
                copied.note(path, entry)

    def _bring_part(self, run: RunDir, part: str) -> None:
        complete = not self._goes_on(run)  # asked first: what is listed afterwards is all there will be
        listed = self._transport.listing([run.path.name]).get(run.path.name, {})
        copied = _Copied(run)
        if part == "figures":
            for path, entry in listed.items():
                if _is_figure(path):
                    self._bring(run, path, entry, copied)
        else:
            self._bring_signed(run, part, listed, copied, complete=complete)
        copied.complete(part, len(run.attempts()) if complete else 0)
        copied.save()

    def _bring_signed(
        self, run: RunDir, part: str, listed: Mapping[str, Entry], copied: _Copied, *, complete: bool
    ) -> None:
        """Bring the files that the signed lists of a folder name; nobody vouches for others there."""
        entries = {
            _name(path): entry
            for path, entry in listed.items()
            if path == f"{part}/{_name(path)}" and not path.endswith(".tmp")
        }
        lists = [name for name in entries if name.startswith("manifest") and name.endswith(".json")]
        if entries and not lists and complete:
            raise NotTrusted(f"{part} of run {run.path.name} at its target are not signed: nothing of them is loaded.")
        digests: dict[str, str] = {}
        for name in lists:
            digests |= manifest.parse(b"".join(self._read(run, f"{part}/{name}")), part, run.read_key())
        for name, sha256 in digests.items():
            path = f"{part}/{name}"
            if name != _name(path) or name not in entries:
                raise FileNotFoundError(path)
            if copied.differs(path, entries[name]):
                _replace(run, path, self._read(run, path), sha256)
                copied.note(path, entries[name])
        folder = run.path / part
        for old in folder.iterdir() if folder.is_dir() else ():
            if old.name not in digests:
                old.unlink()  # it was removed there, as old checkpoints are

    def _read(self, run: RunDir, path: str, offset: int = 0) -> Iterator[bytes]:
        return self._transport.read(run.path.name, path, offset)


class _Copied:
    """What has been brought: replaced files by size and time of change at the other end, and which parts are whole."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        state = read_json(run.path / _STATE) or {}
        self._entries: dict[str, list[int]] = dict(state.get("files", {}))
        self._complete: dict[str, int] = dict(state.get("complete", {}))  # part → the attempt that it is of
        self._changed = False

    def differs(self, path: str, entry: Entry) -> bool:
        """Whether the other end has a file that was not brought yet."""
        return self._entries.get(path) != list(entry) or not (self._run.path / path).exists()

    def note(self, path: str, entry: Entry) -> None:
        """Remember that a file was brought."""
        self._entries[path] = list(entry)
        self._changed = True

    def is_complete(self, part: str, attempts: int) -> bool:
        """Whether all of a part is here that a run with so many attempts, the last of which has ended, will have."""
        return self._complete.get(part) == attempts

    def complete(self, part: str, attempt: int) -> None:
        """Remember that a part is whole after this attempt; 0 if it is not."""
        if self._complete.get(part, 0) != attempt:
            self._complete[part] = attempt
            self._changed = True

    def save(self) -> None:
        """Write it down, if there is anything new."""
        if self._changed:
            write_json(self._run.path / _STATE, {"files": self._entries, "complete": self._complete})


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _is_live(path: str) -> bool:
    """Whether a file is brought as it is written: an attempt's, but for figures. No path leads out of the run."""
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
    """Put a file here at once, if its content has the digest that it is to have.

    Raises
    ------
    _Mismatch
        if it has another.
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
    """A file that is not what its list says: it was replaced a moment ago, or is not the run's."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _locked(run: RunDir, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process may write the copy now. Without ``wait`` it may not where another does."""
    with open(run.path / _LOCK, "ab", opener=_private) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
            os.utime(run.path / _LOCK)


@contextlib.contextmanager
def _one_line(run: RunDir, what: str) -> Iterator[None]:
    """Say of which run an error of the transport is, and what can't be done."""
    try:
        yield
    except OSError as error:
        raise MlnbError(f"run {run.path.name}: {what}: {error.strerror or error}") from error
