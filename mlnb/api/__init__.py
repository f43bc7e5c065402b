"""Runs: submitting, finding and reading them. Widget, panel, CLI and Python share this one reader."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from mlnb.api.read.state import observe
from mlnb.api.run import Run
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.config.paths import runs_root

__all__ = ["Run", "Runs", "runs"]


class Runs:
    """All runs of this user, newest first: ``for run in mlnb.runs``, ``mlnb.runs["resnet"]``, ``mlnb.runs[0]``."""

    def __init__(self) -> None:
        self._known: dict[Path, Run] = {}

    def _run(self, path: Path) -> Run:
        return self._known.setdefault(path, Run(RunDir(path)))

    def add(self, run: Run) -> Run:
        """Have this process know ``run`` by this very object (which holds what only this session has)."""
        self._known[run.dir] = run
        return run

    def _paths(self) -> list[Path]:
        root = runs_root()
        found = [path for path in root.glob("[0-9]*") if (path / "run.json").exists()] if root.exists() else []
        return sorted(found, key=lambda path: path.name, reverse=True)

    def __iter__(self) -> Iterator[Run]:
        found = sorted((self._run(path) for path in self._paths()), key=_submitted, reverse=True)
        return iter(found)

    def __len__(self) -> int:
        return len(self._paths())

    def __getitem__(self, key: str | int) -> Run:
        """The run with this id, the newest with this name, or the n-th newest.

        Raises
        ------
        UsageError
            (a ``KeyError`` in spirit) if there is none, with the nearest name.
        """
        if isinstance(key, int):
            found = list(self)
            if not -len(found) <= key < len(found):
                raise UsageError(f"run number {key}: there are {len(found)} runs in {runs_root()}")
            return found[key]
        path = runs_root() / key
        if "/" not in key and (path / "run.json").exists():
            return self._run(path)
        named = [run for run in self if run.name == key]
        if named:
            return named[0]
        near = difflib.get_close_matches(key, {run.name for run in self}, 1)
        hint = f"did you mean {near[0]}?" if near else "`mlnb runs` (in a notebook %runs) lists those there are"
        raise UsageError(f"run {key!r}: there is none of that id or name in {runs_root()}; {hint}")

    def observed(self, limit: int | None = None) -> list[Run]:
        """The newest runs, their states read together."""
        found = list(self)[:limit]
        for run, seen in zip(found, observe([run.watched for run in found]), strict=True):
            run.take(seen)
        return found

    def __repr__(self) -> str:
        return f"<mlnb.runs: {len(self)} in {runs_root()}>"


def _submitted(run: Run) -> float:
    return float(run.about.get("submitted", 0.0))


runs = Runs()
