"""The interface of submissions, and one without dask-jobqueue: a plain script, for systems that it does not support."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Submission(Protocol):
    """A job with its directives; implemented here and by :class:`~mlnb.targets.batch.jobqueue.adapter.JobqueueJob`."""

    @property
    def prologue(self) -> Sequence[str]:
        """The lines of shell that the site runs before each job."""

    def script(self) -> str:
        """What is submitted."""

    def submit(self, options: Sequence[str], env: Mapping[str, str]) -> str:
        """Run the submit command with further ``options`` and with the environment ``env``; returns what it printed."""


class PlainScript:
    """A job whose directives come from mlnb and the site only.

    Parameters
    ----------
    line
        the shell command that the job runs.
    prefix
        put before each directive, as ``#SBATCH``.
    directives
        the directives, without prefix.
    prologue
        lines of shell before the command.
    submit_command, reads_stdin, run
        as those of :class:`~mlnb.targets.batch.jobqueue.adapter.JobqueueJob`.
    """

    def __init__(
        self,
        line: str,
        *,
        prefix: str,
        directives: Sequence[str],
        prologue: Sequence[str],
        submit_command: str,
        reads_stdin: bool,
        run: Callable[..., str],
    ) -> None:
        self._line, self._submit_command, self._reads_stdin, self._run = line, submit_command, reads_stdin, run
        self._directives = [f"{prefix} {directive}" for directive in directives]
        self.prologue = prologue

    def script(self) -> str:
        """See :class:`Submission`."""
        return "\n".join(["#!/bin/sh", *self._directives, *self.prologue, self._line]) + "\n"

    def submit(self, options: Sequence[str], env: Mapping[str, str]) -> str:
        """See :class:`Submission`."""
        command = [*shlex.split(self._submit_command), *options]
        if self._reads_stdin:
            return self._run(command, env, stdin=self.script().encode())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.sh"
            path.write_text(self.script(), encoding="utf-8")
            return self._run([*command, str(path)], env)
