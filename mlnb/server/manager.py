"""Gives the HTTP handlers the runs of a workspace as JSON. Its methods block, and may be called from any thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any

from mlnb.api import Run
from mlnb.api.index import Index
from mlnb.api.read.state import observe
from mlnb.errors import NoSuchRun
from mlnb.render.output_bundle import bundle
from mlnb.render.summary import summary
from mlnb.rundir import FINAL, RunDir
from mlnb.server.poller import Poller
from mlnb.workspace import Workspace

ID = r"[0-9][\w.+-]{0,200}"
"""Pattern of run ids. No id can name a path outside the folder of runs."""


class Manager:
    """The runs of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.poller = Poller()
        self._workspace = workspace
        self._runs: dict[str, Run] = {}
        self._index = Index(workspace.root)
        self._lock = threading.Lock()

    def find(self, run_id: str) -> Run:
        """A new object for the run of this id.

        Raises
        ------
        NoSuchRun
            if there is no such run.
        """
        path = self._workspace.root / run_id
        if not re.fullmatch(ID, run_id, re.ASCII) or not (path / "run.json").is_file():
            raise NoSuchRun(f"No run with id {run_id[:200]!r}.")
        return Run(RunDir(path), self._workspace)

    def list_runs(self, ids: Iterable[str] | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest runs, or those of ``ids`` that exist, with their states read together."""
        if ids is None:
            names = [entry.id for entry in self._index.entries()[:limit]]
        else:
            names = list(dict.fromkeys(ids))[:limit]
        with self._lock:
            runs = []
            for name in names:
                try:
                    runs.append(self._runs.setdefault(name, self.find(name)))
                except NoSuchRun:  # it never existed, or was removed
                    self._runs.pop(name, None)
            observations = observe([run.observable for run in runs])
        return [
            {
                "id": run.id,
                "name": run.name,
                "state": observation.state,
                "reason": observation.reason,
                "target": run.target,
                "attempts": run.attempts,
                "submitted": run.info.submitted,
            }
            for run, observation in zip(runs, observations, strict=True)
        ]

    def summary_of(self, run_id: str) -> dict[str, Any]:
        """The summary of a run: what a view shows besides its curves.

        Raises
        ------
        NoSuchRun
            if there is no run with this id.
        """
        run = self.find(run_id)
        return summary(run, run.all_series(), final=run.state in FINAL)

    def output_of(self, run_id: str) -> dict[str, Any]:
        """A run as the output under its cell, by MIME type.

        Raises
        ------
        NoSuchRun
            if there is no run with this id.
        """
        return bundle(self.find(run_id))

    def cancel(self, run_id: str) -> dict[str, Any]:
        """End a run; returns its summary when it has ended.

        Raises
        ------
        NoSuchRun
            if there is no run with this id.
        MlnbError
            if its target could not end it.
        """
        run = self.find(run_id)
        run.cancel()
        return self.summary_of(run_id)
