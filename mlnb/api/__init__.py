"""Runs: submitting, finding and reading them. Notebook, server, command line and Python all read runs through this."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path

from mlnb.api.index import Index
from mlnb.api.read.state import observe
from mlnb.api.run import Run
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.workspace import Workspace

__all__ = ["Run", "Runs", "runs"]


class Runs:
    """All runs of a workspace, newest first: ``for run in mlnb.runs``, ``mlnb.runs["resnet"]``, ``mlnb.runs[0]``.

    Parameters
    ----------
    workspace
        the workspace; without it that of this process, as it is at each access.
    """

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._workspace = workspace
        self._runs: dict[Path, Run] = {}
        self._index: Index | None = None

    @property
    def workspace(self) -> Workspace:
        """The workspace of these runs."""
        return self._workspace or Workspace.of_process()

    @property
    def index(self) -> Index:
        """Ids and names of the runs, without reading each."""
        root = self.workspace.root
        if self._index is None or self._index.root != root:
            self._index = Index(root)
        return self._index

    def _run(self, run_id: str) -> Run:
        path = self.index.root / run_id
        return self._runs.setdefault(path, Run(RunDir(path), self.workspace))

    def add(self, run: Run) -> Run:
        """Use this object for ``run`` from now on: it has the link to the session's objects."""
        self._runs[run.dir] = run
        return run

    def __iter__(self) -> Iterator[Run]:
        return (self._run(entry.id) for entry in self.index.entries(hidden=True))

    def __len__(self) -> int:
        return len(self.index.entries(hidden=True))

    def __getitem__(self, key: str | int) -> Run:
        """The run with this id, the newest with this name, or the n-th newest.

        Raises
        ------
        UsageError
            if there is none; the message suggests the nearest name.
        """
        if isinstance(key, int):
            entries = self.index.entries(hidden=True)
            if not -len(entries) <= key < len(entries):
                raise UsageError(f"Run number {key}: there are {len(entries)} runs in {self.index.root}.")
            return self._run(entries[key].id)
        if "/" not in key and (self.index.root / key / "run.json").exists():
            return self._run(key)
        entry = self.index.named(key)
        if entry is not None:
            return self._run(entry.id)
        near = difflib.get_close_matches(key, self.index.names(), 1)
        hint = f"Did you mean {near[0]}?" if near else "`mlnb runs` (in a notebook %runs) lists them."
        raise UsageError(f"No run named {key!r} in {self.index.root}. {hint}")

    def observed(self, limit: int | None = None, *, hidden: bool = False) -> list[Run]:
        """The newest runs; their states are read together, which is faster than one by one.

        Parameters
        ----------
        hidden
            whether those that ``mlnb doctor`` has left are among them.
        """
        newest = [self._run(entry.id) for entry in itertools.islice(self.index.entries(hidden=hidden), limit)]
        for run, observation in zip(newest, observe([run.observable for run in newest]), strict=True):
            run.record(observation)
        return newest

    def __repr__(self) -> str:
        return f"<mlnb.runs: {len(self)} in {self.index.root}>"


runs = Runs()
