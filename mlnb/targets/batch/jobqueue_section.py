"""The site's settings for dask-jobqueue, which hold for mlnb's jobs too: one section of ``jobqueue.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.errors import UsageError


@dataclass(frozen=True)
class Section:
    """One section, by its name under ``jobqueue:``; what it does not set is ``None`` or empty.

    dask-jobqueue's Job classes read more of it by themselves, as the account and the shell.
    """

    name: str

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
        """Parts of lines: those of dask-jobqueue's own directives that have one are left out."""
        return self._lines("job-directives-skip", "header-skip")

    @property
    def prologue(self) -> tuple[str, ...]:
        """Lines of shell that run before each job."""
        return self._lines("job-script-prologue", "env-extra")

    def _text(self, *keys: str) -> str | None:
        value = self._value(*keys)
        return None if value is None else str(value)

    def _value(self, *keys: str) -> Any:
        """The first that is set: later keys are those of older versions of dask-jobqueue."""
        import dask.config  # here, so that listing the kinds of targets does not import dask

        values = (dask.config.get(f"jobqueue.{self.name}.{key}", None) for key in keys)
        return next((value for value in values if value is not None), None)

    def _lines(self, *keys: str) -> tuple[str, ...]:
        value = self._value(*keys)
        if isinstance(value, Mapping):  # as HTCondor has them
            value = [f"{name} = {text}" for name, text in value.items()]
        lines = () if value is None else tuple(value) if isinstance(value, (list, tuple, set)) else (value,)
        for line in lines:
            if not isinstance(line, str) or "\n" in line:
                raise UsageError(f"{keys[0]}: {line!r} of jobqueue.{self.name} is not a text of one line")
        return lines
