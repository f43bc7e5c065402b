"""The runs as a server knows them: ids in, JSON out. Knows no tornado; blocks, and may be called from any thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any

from mlnb.api import Run
from mlnb.api.read.state import observe
from mlnb.errors import UsageError
from mlnb.render.summary import head
from mlnb.rundir import FINAL, RunDir
from mlnb.server.poller import Poller
from mlnb.targets.config.paths import runs_root

ID = r"[0-9][\w.+-]{0,200}"
"""What ids look like; no path leads out of the runs' root by one."""


class Manager:
    """The runs in this user's root."""

    def __init__(self) -> None:
        self.poller = Poller()
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def find(self, run_id: str) -> Run:
        """A run of this id, as nobody else reads it.

        Raises
        ------
        UsageError
            if there is none.
        """
        path = runs_root() / run_id
        if not re.fullmatch(ID, run_id, re.ASCII) or not (path / "run.json").is_file():
            raise UsageError(f"run {run_id[:200]!r}: there is none of that id in {runs_root()}")
        return Run(RunDir(path))

    def listed(self, ids: Iterable[str] | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest runs, or those of ``ids`` that there are, observed together."""
        if ids is None:
            names = sorted((path.parent.name for path in runs_root().glob("[0-9]*/run.json")), reverse=True)[:limit]
        else:
            names = list(dict.fromkeys(ids))[:limit]
        with self._lock:
            found = []
            for name in names:
                try:
                    found.append(self._runs.setdefault(name, self.find(name)))
                except UsageError:  # never was, or was removed
                    self._runs.pop(name, None)
            seen = observe([run.watched for run in found])
        return [
            {
                "id": run.id,
                "name": run.name,
                "state": one.state,
                "reason": one.reason,
                "target": run.target,
                "attempts": run.attempts,
                "submitted": run.about.get("submitted"),
            }
            for run, one in zip(found, seen, strict=True)
        ]

    def shown(self, run_id: str) -> dict[str, Any]:
        """What a view shows of a run beside its curves."""
        run = self.find(run_id)
        return head(run, run.all_series(), final=run.state in FINAL)

    def cancel(self, run_id: str) -> dict[str, Any]:
        """End a run; returns when it is gone, with what became of it."""
        run = self.find(run_id)
        run.cancel()
        return self.shown(run_id)
