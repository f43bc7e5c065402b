"""The interface of targets without a shared file system: a mirror of run directories, or a transport for their files.

Everything that reads a run reads its local run directory. A :class:`Mirror` copies into it what the job wrote on the
remote machine, and sends signals to the job. Most targets need only a :class:`Transport`, which reads and writes remote
files: :class:`mlnb.targets.mirror.copying.CopyMirror` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mlnb.rundir import RunDir

PARTS = ("outputs", "checkpoints", "figures")
"""Folders that are copied only when they are read; all else is copied as it is written."""


class Mirror(Protocol):
    """Copies files between the local run directories and those that the jobs use."""

    def push(self, run: RunDir, files: Sequence[str]) -> None:
        """Copy files of the local run directory (paths relative to it) to where the job will see them.

        A file that does not exist locally is deleted on the remote side.

        Raises
        ------
        MlnbError
            if they can't be sent; then no job is submitted.
        """

    def refresh(self, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
        """Copy what is new of these runs: events, heartbeats, metrics, logs, and last the result.

        The local result is written only after all that the job wrote before it. This is called often; the mirror limits
        how often it asks the remote side, except with ``at_once``.

        Raises
        ------
        MlnbError
            if the remote side does not answer. What was copied before stays readable.
        """

    def fetch(self, run: RunDir, part: str) -> None:
        """Copy one of :data:`PARTS`, as it is now.

        Raises
        ------
        NotTrusted
            if files are not those that the run's own processes have signed.
        MlnbError
            if the remote side does not answer.
        """

    def signal(self, run: RunDir, name: str) -> None:
        """Send a signal to the node programs: ``cancel``, whose file the session has written.

        Raises
        ------
        MlnbError
            if the remote side does not answer.
        """

    def remove(self, run: RunDir) -> None:
        """Delete the remote run directory, if there is one."""


class Entry(NamedTuple):
    """A remote file: its size in bytes, and the time of its last change in nanoseconds."""

    size: int
    changed: int


class Transport(Protocol):
    """Access to the files of remote run directories. Each call may raise ``OSError`` or ``MlnbError``."""

    def listing(self, runs: Sequence[str]) -> Mapping[str, Mapping[str, Entry]]:
        """The files of these runs (ids), by path relative to the run directory; runs that don't exist are left out."""

    def read(self, run: str, path: str, offset: int = 0) -> Iterator[bytes]:
        """The content of a file from ``offset`` to its end, in pieces of a few megabytes at most.

        Raises
        ------
        FileNotFoundError
            if there is none.
        """

    def write(self, run: str, path: str, source: Path) -> None:
        """Copy ``source`` to ``path`` atomically: readers never see an incomplete file. Creates folders."""

    def delete(self, run: str, path: str) -> None:
        """Delete a file, if there is one."""

    def remove(self, run: str) -> None:
        """Delete the run directory, if there is one."""
