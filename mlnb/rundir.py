"""The run directory: the only truth about a run. Standard library only.

Each file has exactly one writer and is append-only or replaced by an atomic rename, so that whoever dies at
whatever moment leaves a directory that reads. ``docs/design.md`` lists the files and their writers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlnb.errors import NotTrusted, StorageError

STATES = ("pending", "starting", "running", "succeeded", "failed", "cancelled", "lost")
FINAL = frozenset({"succeeded", "failed", "cancelled", "lost"})

JOB_LOG = "job.log"
"""What a batch system's job itself prints, in the folder of the attempt that it was submitted for."""

_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENOTDIR: "part of the path is not a directory",
    errno.EIO: "the file system reports an input/output error",
}


@contextlib.contextmanager
def storage_errors(path: Path, variable: str = "MLNB_RUNS") -> Iterator[None]:
    """Turn an ``OSError`` about storage into one clear line; others pass.

    Parameters
    ----------
    variable
        what sets where ``path`` is.

    Raises
    ------
    StorageError
        naming ``path``, what is wrong with it and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise StorageError(
            f"can't write {path}: {_STORAGE[error.errno]}. Free space there or set {variable} to another folder."
        ) from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace ``path`` so that a reader sees the old content or the new, never a part.

    Its mode is 0600, whatever the umask. Of several writers one wins.
    """
    temporary = temporary_path(path)
    with storage_errors(path):
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data.encode() if isinstance(data, str) else data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def temporary_path(path: Path) -> Path:
    """A name in the same folder for what is to be renamed to ``path``: no other thread, process or machine has it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` atomically with ``value`` as JSON."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``; ``None`` where there is none (or none that reads)."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def select_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that the dataclass ``kind`` has: a file of a newer mlnb may hold more."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def read_json_fresh(path: Path) -> dict[str, Any] | None:
    """Like :func:`read_json`, for a file that another machine may have written a moment ago.

    A network file system remembers for up to a minute that a file was not there. It asks its server anew for what is
    opened (close-to-open consistency; not for what is only looked at with stat), the directory included, so that is
    opened first.
    """
    return read_json(path) if revalidate_directory(path.parent) else None


def revalidate_directory(folder: Path) -> bool:
    """Have a network file system ask what is in ``folder`` (see :func:`look`); whether that is there."""
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a torn last line (its writer died) is left out."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return parse_lines(data)


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The objects among the lines of ``data``; what is torn or no object is left out."""
    found = []
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def check_trusted(path: Path, so: str = "it is not loaded") -> None:
    """Refuse a file or directory that someone else could have written.

    Parameters
    ----------
    so
        what doesn't happen then.

    Raises
    ------
    NotTrusted
        if ``path`` is of another owner, or group or others may write to it.
    """
    info = path.stat()
    if info.st_uid != os.getuid():
        raise NotTrusted(f"{path} belongs to user id {info.st_uid}, not to you ({os.getuid()}): {so}.")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotTrusted(
            f"{path} may be written by others (mode {stat.S_IMODE(info.st_mode):o}), so {so}: "
            f"if you trust what is there, chmod go-w {shlex.quote(str(path))}"
        )


class Attempt:
    """The files of one attempt of a run: ``RUN/attempts/NNN``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def number(self) -> int:
        """1 for the first attempt."""
        return int(self.path.name)

    def events(self, node: int) -> Path:
        """Written by node ``node``'s program: JSON lines of what happened and device samples."""
        return self.path / f"node-{node}.jsonl"

    def heartbeat(self, node: int) -> Path:
        """Written by node ``node``'s program: its heartbeat."""
        return self.path / f"node-{node}.alive.json"

    def lock(self, node: int) -> Path:
        """Written by node ``node``'s program before all else, and never twice: which process it is."""
        return self.path / f"node-{node}.claim.json"

    def machine(self, node: int) -> Path:
        """Written by node ``node``'s program: its hardware and software."""
        return self.path / f"node-{node}.machine.json"

    def metrics(self, rank: int) -> Path:
        """Written by rank ``rank``: frames of metrics (``mlnb.node.rank.frames``)."""
        return self.path / f"rank-{rank}.metrics"

    def stdout(self, rank: int) -> Path:
        """Written by rank ``rank``."""
        return self.path / f"rank-{rank}.out"

    def stderr(self, rank: int) -> Path:
        """Written by rank ``rank``."""
        return self.path / f"rank-{rank}.err"

    def exit(self, rank: int) -> Path:
        """Written by rank ``rank`` as its last act: its own account of how it ended."""
        return self.path / f"rank-{rank}.exit.json"

    @property
    def rendezvous(self) -> Path:
        """Written by node 0's program: where the other nodes' programs find it, and by what it knows them."""
        return self.path / "rendezvous.json"

    @property
    def job_log(self) -> Path:
        """Written by the batch system, in the attempt that was submitted: what the job itself prints."""
        return self.path / JOB_LOG

    @property
    def figures(self) -> Path:
        """Pictures the script showed, written by rank 0."""
        return self.path / "figures"

    def ranks(self) -> list[int]:
        """Ranks that left a standard output, in order."""
        return sorted(int(p.name.split(".")[0].removeprefix("rank-")) for p in self.path.glob("rank-*.out"))

    def nodes(self) -> list[int]:
        """Nodes that left events, in order."""
        return sorted(int(p.name.split(".")[0].removeprefix("node-")) for p in self.path.glob("node-*.jsonl"))


_ATTEMPT = re.compile("[0-9]{3}")


class RunDir:
    """The files of one run. Knows names and writers, holds no state."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def task(self) -> Path:
        """Written at submission: the task."""
        return self.path / "task.json"

    @property
    def run(self) -> Path:
        """Written at submission: id, name, target, who, where, when, notes."""
        return self.path / "run.json"

    @property
    def script(self) -> Path:
        """Written at submission: the program that the ranks run."""
        return self.path / "script.py"

    @property
    def inputs(self) -> Path:
        """Written at submission: content-addressed data, and ``N.pickle`` streams that refer to it."""
        return self.path / "inputs"

    @property
    def modules(self) -> Path:
        """Written at submission: local modules; first on the ranks' import path."""
        return self.path / "modules"

    @property
    def node_zip(self) -> Path:
        """Written at submission: the node program."""
        return self.path / "mlnb.zip"

    @property
    def handle(self) -> Path:
        """Written by the target: how to find the job again."""
        return self.path / "handle.json"

    @property
    def ended(self) -> Path:
        """Written by the target, once: how the job of the handle ended, for a run that left no result."""
        return self.path / "ended.json"

    @property
    def cancel(self) -> Path:
        """Written by whoever cancels, once: who and when."""
        return self.path / "cancel.json"

    @property
    def checkpoints(self) -> Path:
        """Written by rank 0: checkpoints, newest last by name."""
        return self.path / "checkpoints"

    @property
    def outputs(self) -> Path:
        """Written by rank 0, renamed into place when complete."""
        return self.path / "outputs"

    @property
    def key(self) -> Path:
        """Written by the submission, where the run directory is mirrored: the run's key (``mlnb.manifest``)."""
        return self.path / "key"

    def read_key(self) -> str:
        """The run's key.

        Raises
        ------
        NotTrusted
            if there is none, or another could have written it.
        """
        try:
            check_trusted(self.key)
            return self.key.read_text().strip()
        except FileNotFoundError:
            raise NotTrusted(f"{self.key} is missing: what the run wrote can't be told from another's.") from None

    @property
    def has_outputs(self) -> bool:
        """Whether the run has left results that can be loaded."""
        return (self.outputs / "session.pickle").exists()

    @property
    def result(self) -> Path:
        """Written last, by node 0: how the run ended."""
        return self.path / "result.json"

    def attempt(self, number: int) -> Attempt:
        """The files of attempt ``number`` (from 1)."""
        return Attempt(self.path / "attempts" / f"{number:03d}")

    def attempts(self) -> list[Attempt]:
        """The attempts there are, in order."""
        folder = f"{self.path}/attempts"
        try:
            with os.scandir(folder) as found:  # not glob, which takes ten times as long: views ask often
                names = sorted(entry.name for entry in found)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []
        return [Attempt(Path(folder, name)) for name in names if _ATTEMPT.fullmatch(name)]
