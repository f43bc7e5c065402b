"""The run directory: the files in which everything about a run is stored. Standard library only.

Each file has one writer, and is append-only or replaced by an atomic rename. So the directory is readable whenever a
writer dies. ``docs/design.md`` lists the files and their writers.
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
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlnb.errors import NotTrusted, storage_errors

STATES = ("pending", "starting", "running", "succeeded", "failed", "cancelled", "lost")
FINAL = frozenset({"succeeded", "failed", "cancelled", "lost"})

JOB_LOG = "job.log"
"""File name of a batch job's own output, in the folder of the attempt that the job was submitted for."""

PROCESS_STATE = "process.pickle"
"""File name of a process's state (generators, warning filters, variables), in the folders of inputs and outputs."""


def write_atomic(path: Path, data: bytes | str, *, durable: bool = False, variable: str = "MLNB_RUNS") -> None:
    """Replace the content of ``path``: a reader sees either the old or the new content, never a part.

    The file's mode is 0600, whatever the umask. If several processes write at once, the last rename counts.

    Parameters
    ----------
    durable
        whether the content must be on the disk when this returns, so that it outlasts a power failure.
    variable
        the environment variable that sets where ``path`` is.

    Raises
    ------
    StorageError
        if the disk is full, read-only or the like.
    """
    temporary = temporary_path(path)
    with storage_errors(path, variable):
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data.encode() if isinstance(data, str) else data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
            if durable:
                sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def sync_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk (fsync(2)), where the file system can."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some file systems refuse it for folders
            os.fsync(file)
    finally:
        os.close(file)


def temporary_path(path: Path) -> Path:
    """A unique path in the same folder, for a file that is to be renamed to ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_json(path: Path, value: object, *, durable: bool = False) -> None:
    """Write ``value`` as JSON; see :func:`write_atomic`."""
    write_atomic(path, json.dumps(value, indent=1) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; ``None`` if there is no file, or no valid object in it."""
    try:
        value = json.loads(_read_bytes(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read_bytes(path: Path) -> bytes:
    """The content of ``path``; opened again if it was replaced on another machine meanwhile (ESTALE, nfs(5))."""
    for _ in range(_STALE_ATTEMPTS):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            revalidate_directory(path.parent)
    return path.read_bytes()


_STALE_ATTEMPTS = 5


def select_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of the dataclass ``kind``: a file of a newer mlnb may have more keys."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def read_json_fresh(path: Path) -> dict[str, Any] | None:
    """Like :func:`read_json`, for a file that another machine may have written just now.

    An NFS client may remember for a minute that a file did not exist. It revalidates what is opened (close-to-open
    consistency, nfs(5)), but not what stat(2) looks at. So the directory is opened first.
    """
    return read_json(path) if revalidate_directory(path.parent) else None


def revalidate_directory(folder: Path) -> bool:
    """Make an NFS client revalidate its cache of ``folder``; see :func:`read_json_fresh`. Returns whether it exists."""
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; an incomplete line, as of a writer that died, is skipped."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return parse_lines(data)


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects among the lines of ``data``. Other lines are skipped."""
    objects = []
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def check_trusted(path: Path, consequence: str = "it is not loaded") -> None:
    """Refuse a file or directory that another user could have written.

    Parameters
    ----------
    consequence
        for the error message: what is not done with ``path``.

    Raises
    ------
    NotTrusted
        if another user owns ``path``, or if group or others may write to it.
    """
    info = path.stat()
    if info.st_uid != os.getuid():
        raise NotTrusted(f"{path} belongs to user id {info.st_uid}, not to you ({os.getuid()}), so {consequence}.")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotTrusted(
            f"{path} is writable by other users (mode {stat.S_IMODE(info.st_mode):o}), so {consequence}. "
            f"If you trust its content: chmod go-w {shlex.quote(str(path))}"
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
        """Written by node ``node``'s program: events and samples of resource use, as JSON lines."""
        return self.path / f"node-{node}.jsonl"

    def heartbeat(self, node: int) -> Path:
        """Written by node ``node``'s program: its heartbeat."""
        return self.path / f"node-{node}.alive.json"

    def lock(self, node: int) -> Path:
        """Written once, before all else, by node ``node``'s program: which process it is."""
        return self.path / f"node-{node}.claim.json"

    def machine(self, node: int) -> Path:
        """Written by node ``node``'s program: its hardware and software."""
        return self.path / f"node-{node}.machine.json"

    def metrics(self, rank: int) -> Path:
        """Written by rank ``rank``: frames of metrics (``mlnb.node.rank.frames``)."""
        return self.path / f"rank-{rank}.metrics"

    def stdout(self, rank: int) -> Path:
        """Written by rank ``rank``: its standard output."""
        return self.path / f"rank-{rank}.out"

    def stderr(self, rank: int) -> Path:
        """Written by rank ``rank``: its standard error."""
        return self.path / f"rank-{rank}.err"

    def exit(self, rank: int) -> Path:
        """Written last by rank ``rank``: its report of how it ended."""
        return self.path / f"rank-{rank}.exit.json"

    @property
    def rendezvous(self) -> Path:
        """Written by node 0's program: its addresses, and the token with which the other nodes authenticate."""
        return self.path / "rendezvous.json"

    @property
    def job_log(self) -> Path:
        """Written by the batch system, in the attempt that was submitted: the job's own output."""
        return self.path / JOB_LOG

    @property
    def job_script(self) -> Path:
        """Written at submission to a batch system: what the job runs."""
        return self.path / "job.sh"

    @property
    def exit_code(self) -> Path:
        """Written by node 0's program, if there are several nodes: the exit code that the job is to have."""
        return self.path / "exit-code"

    @property
    def array(self) -> Path:
        """Written at submission, if the job is a task of an array: ``array``, the array's own id, and ``task``."""
        return self.path / "array.json"

    @property
    def figures(self) -> Path:
        """Written by rank 0: the figures that the script showed."""
        return self.path / "figures"

    def ranks(self) -> list[int]:
        """Ranks that have a standard output, in ascending order."""
        return sorted(int(p.name.split(".")[0].removeprefix("rank-")) for p in self.path.glob("rank-*.out"))

    def nodes(self) -> list[int]:
        """Nodes that have events, in ascending order."""
        return sorted(int(p.name.split(".")[0].removeprefix("node-")) for p in self.path.glob("node-*.jsonl"))


_ATTEMPT = re.compile("[0-9]{3}")


class RunDir:
    """The files of one run: paths only, no state."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def task(self) -> Path:
        """Written at submission: the task."""
        return self.path / "task.json"

    @property
    def run(self) -> Path:
        """Written at submission: id, name, target, user, host, time, notes."""
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
        """Written by the target: how to find the job again, from any process."""
        return self.path / "handle.json"

    @property
    def ended(self) -> Path:
        """Written once by the target: how the job ended, if the run left no result."""
        return self.path / "ended.json"

    @property
    def cancel(self) -> Path:
        """Written once by the process that cancels the run: by whom, and when."""
        return self.path / "cancel.json"

    @property
    def checkpoints(self) -> Path:
        """Written by rank 0: checkpoints, whose names sort by age."""
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
            raise NotTrusted(f"{self.key} is missing: the files that the run wrote can't be verified.") from None

    @property
    def has_outputs(self) -> bool:
        """Whether the run has outputs that can be loaded."""
        return (self.outputs / "session.pickle").exists()

    @property
    def result(self) -> Path:
        """Written last, by node 0's program: how the run ended."""
        return self.path / "result.json"

    def attempt(self, number: int) -> Attempt:
        """The files of attempt ``number`` (from 1)."""
        return Attempt(self.path / "attempts" / f"{number:03d}")

    def attempts(self) -> list[Attempt]:
        """All attempts, in ascending order."""
        folder = f"{self.path}/attempts"
        try:
            with os.scandir(folder) as entries:  # ten times as fast as glob: views call this often
                names = sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []
        return [Attempt(Path(folder, name)) for name in names if _ATTEMPT.fullmatch(name)]
