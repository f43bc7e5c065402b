"""Reads a site's settings for dask-jobqueue, which hold for mlnb's jobs too: one section below ``jobqueue:``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.errors import UsageError
from mlnb.workspace import Workspace


@dataclass(frozen=True)
class Section:
    """One section of a workspace's configuration, by its name. Settings that it lacks are ``None`` or empty.

    dask-jobqueue's Job classes read more of it by themselves, as the account and the shell.
    """

    name: str
    workspace: Workspace

    @property
    def values(self) -> Mapping[str, Any]:
        """All settings of the section, over dask-jobqueue's defaults if that is imported; empty without the section."""
        configs = [self.workspace.config]
        if "dask.config" in sys.modules:  # else there are no defaults yet, and importing it takes long
            configs = [*sys.modules["dask.config"].defaults, *configs]
        merged: dict[str, Any] = {}
        for config in configs:
            merged |= _normalised(_normalised(config.get("jobqueue")).get(self.name.replace("_", "-")))
        return merged

    @property
    def queue(self) -> str | None:
        """The queue that jobs go to."""
        return self._text("queue")

    @property
    def walltime(self) -> str | None:
        """The time limit of jobs, as the system writes it; dask-jobqueue's own default after that is imported."""
        return self._text("walltime")

    @property
    def account(self) -> str | None:
        """The account that jobs are charged to."""
        return self._text("account", "project")

    @property
    def directives(self) -> tuple[str, ...]:
        """Lines for the submission, without the system's prefix."""
        return self._lines("job-extra-directives", "job-extra")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Texts: those of dask-jobqueue's directives that contain one of them are left out."""
        return self._lines("job-directives-skip", "header-skip")

    @property
    def prologue(self) -> tuple[str, ...]:
        """Lines of shell that run before each job."""
        return self._lines("job-script-prologue", "env-extra")

    @property
    def interface(self) -> str | None:
        """The network interface between this machine and the nodes."""
        options = self._value("scheduler-options")
        named = options.get("interface") if isinstance(options, Mapping) else None
        return str(named) if named else self._text("interface")

    def _text(self, *keys: str) -> str | None:
        value = self._value(*keys)
        return None if value is None else str(value)

    def _value(self, *keys: str) -> Any:
        """The first that is set: later keys are those of older versions of dask-jobqueue."""
        values = self.values
        return next((values[key] for key in keys if values.get(key) is not None), None)

    def _lines(self, *keys: str) -> tuple[str, ...]:
        value = self._value(*keys)
        if isinstance(value, Mapping):  # as HTCondor has them
            value = [f"{name} = {text}" for name, text in value.items()]
        lines = () if value is None else tuple(value) if isinstance(value, (list, tuple, set)) else (value,)
        for line in lines:
            if not isinstance(line, str) or "\n" in line:
                raise UsageError(f"{keys[0]}: {line!r} of jobqueue.{self.name} is not one line of text")
        return lines


def _normalised(section: Any) -> dict[str, Any]:
    """A section with ``-`` in all its keys, where Dask allows ``_`` too; empty if it is not a mapping."""
    return {str(key).replace("_", "-"): value for key, value in section.items()} if isinstance(section, Mapping) else {}
