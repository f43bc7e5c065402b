"""Errors that users see. Each is one line: what was given, what is allowed, what to do."""

from __future__ import annotations


class MlnbError(Exception):
    """Base class: an error that the user can fix. Its text is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a traceback."""
        return [f"mlnb: {self}"]


class UsageError(MlnbError):
    """An invalid option, name or value. Nothing was submitted or written."""


class NoSuchRun(UsageError):
    """A run that is not in the folder of runs."""


class CannotShip(UsageError):
    """The cell needs an object of the session that can't be sent to another process."""


class NotTrusted(MlnbError):
    """A file that another user owns or may write to. It is not unpickled."""


class RunFailed(MlnbError):
    """A run that was waited for did not succeed."""


class Detached(MlnbError):
    """Waiting for a run was interrupted. The run itself continues."""


class StorageError(MlnbError):
    """A file can't be written, as on a full or read-only disk, or over quota."""
