"""Errors that are part of the product: one line that says what was given, what is allowed, what to do."""

from __future__ import annotations


class MlnbError(Exception):
    """Something a person can mend. Its text is one line (or few), and is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """IPython asks this for what to show in place of a traceback."""
        return [f"{self.title}: {self}"]

    @property
    def title(self) -> str:
        """Words in front of the message."""
        return "mlnb"


class UsageError(MlnbError):
    """An option, a name or a value that can't be used. Nothing was submitted, nothing was written."""


class CannotShip(UsageError):
    """Something in the session that the cell needs and that can't go with it."""


class NotTrusted(MlnbError):
    """A file of another owner, or writable by others: it is never unpickled."""


class RunFailed(MlnbError):
    """A run whose result was waited for did not succeed."""

    @property
    def title(self) -> str:
        """See :class:`MlnbError`."""
        return "run failed"


class Detached(MlnbError):
    """Waiting for a run was interrupted; the run itself goes on."""

    @property
    def title(self) -> str:
        """See :class:`MlnbError`."""
        return "detached"


class StorageError(MlnbError):
    """The run directory can't be written: disk full, read-only, over quota."""
