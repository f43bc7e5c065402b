"""What a site has written for dask-jobqueue, and so for our jobs: the section of ``jobqueue.yaml`` that a target names.

dask-jobqueue reads the rest of it by itself: account or project, prologue, shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.config

from mlnb.errors import UsageError


@dataclass(frozen=True)
class Section:
    """One section, by its name under ``jobqueue:``; what it does not say is ``None`` or empty."""

    name: str

    @property
    def queue(self) -> str | None:
        """Where jobs go."""
        found = self._first("queue")
        return None if found is None else str(found)

    @property
    def walltime(self) -> str | None:
        """How long jobs may run, as the system writes it; dask-jobqueue's own default once that is imported."""
        found = self._first("walltime")
        return None if found is None else str(found)

    @property
    def account(self) -> str | None:
        """Who pays; dask-jobqueue reads it by itself."""
        found = self._first("account", "project")
        return None if found is None else str(found)

    @property
    def directives(self) -> tuple[str, ...]:
        """Lines for the submission, without the system's prefix."""
        return self._lines("job-extra-directives", "job-extra")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Parts of the lines of dask-jobqueue's own that are to be left out."""
        return self._lines("job-directives-skip", "header-skip")

    def _first(self, *keys: str) -> Any:
        """The first that says something: the second is how older versions of dask-jobqueue called it."""
        return next((found for key in keys if (found := dask.config.get(f"jobqueue.{self.name}.{key}", None))), None)

    def _lines(self, *keys: str) -> tuple[str, ...]:
        found = self._first(*keys)
        if isinstance(found, Mapping):  # as HTCondor has them
            found = [f"{name} = {value}" for name, value in found.items()]
        lines = () if found is None else tuple(found) if isinstance(found, (list, tuple, set)) else (found,)
        for line in lines:
            if not isinstance(line, str) or "\n" in line:
                raise UsageError(f"{keys[0]}: {line!r} of jobqueue.{self.name} is not a text of one line")
        return lines
