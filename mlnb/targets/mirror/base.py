"""What a target without a shared file system has to offer: a mirror of its run directories, or a way to its files.

Everything that reads a run reads the run directory of the session. A :class:`Mirror` brings there what the job wrote
elsewhere, and carries signals the other way. Most targets need only a :class:`Transport`, which reads and writes files
at the other end: :class:`mlnb.targets.mirror.copying.CopyMirror` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mlnb.rundir import RunDir

PARTS = ("outputs", "checkpoints", "figures")
"""What is brought only when someone asks for it; all else is brought as it is written."""


class Mirror(Protocol):
    """Keeps run directories of the session like those that the jobs see."""

    def push(self, run: RunDir, files: Sequence[str]) -> None:
        """Make files of the session's run directory (paths relative to it) the same where the job will see them.

        A file that is not here is deleted there.

        Raises
        ------
        MlnbError
            if they can't be sent; then no job is submitted.
        """

    def refresh(self, runs: Sequence[RunDir], *, at_once: bool = False) -> None:
        """Bring what is new of many runs: events, heartbeats, metrics, logs, and at last the result.

        The result is written here only after all that the job wrote before it. Called often; how often the other end
        is asked is the mirror's business, unless it is to be asked ``at_once``.

        Raises
        ------
        MlnbError
            if the other end does not answer. What was brought before stays and reads.
        """

    def fetch(self, run: RunDir, part: str) -> None:
        """Bring one of :data:`PARTS`, as it is now.

        Raises
        ------
        NotTrusted
            if files are not those that the run's own processes have signed.
        MlnbError
            if the other end does not answer.
        """

    def signal(self, run: RunDir, name: str) -> None:
        """Let the node programs see a signal: ``cancel``, of which the session has written the file.

        Raises
        ------
        MlnbError
            if the other end does not answer.
        """

    def remove(self, run: RunDir) -> None:
        """Delete the run's directory at the other end; nothing happens where there is none."""


class Entry(NamedTuple):
    """A file at the other end: its size in bytes, and the time of its last change in nanoseconds."""

    size: int
    changed: int


class Transport(Protocol):
    """Files of run directories at the other end. Each call may raise ``OSError`` or ``MlnbError``."""

    def listing(self, runs: Sequence[str]) -> Mapping[str, Mapping[str, Entry]]:
        """The files of these runs (ids) by path relative to the run directory; a run that is not there is left out."""

    def read(self, run: str, path: str, offset: int = 0) -> Iterator[bytes]:
        """The content of a file from ``offset`` to its end, in pieces of a few megabytes at most.

        Raises
        ------
        FileNotFoundError
            if there is none.
        """

    def write(self, run: str, path: str, source: Path) -> None:
        """Put a copy of ``source`` at ``path``, at once: nobody sees a part of it. Folders are made."""

    def delete(self, run: str, path: str) -> None:
        """Delete a file, if there is one."""

    def remove(self, run: str) -> None:
        """Delete the run directory, if there is one."""
