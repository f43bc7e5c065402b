"""Reasons: why the script needs a name, and whether it can do without."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Need(Enum):
    """Whether the script can do without a name."""

    REQUIRED = auto()
    """It is read: if the session doesn't define it, the cell is refused."""
    DEFERRED = auto()
    """A function or a branch that may never run reads it: if the session doesn't define it, the user gets a note."""
    OPTIONAL = auto()
    """The cell may have assigned it before it reads it: if the session doesn't define it, that is fine."""


@dataclass(frozen=True)
class Reason:
    """Why the script needs a name, as a refusal says it.

    Attributes
    ----------
    line
        the cell's line that leads to the name.
    through
        the session's name that reads it, if the cell doesn't do so itself.
    """

    line: int | None
    through: str | None = None

    def __str__(self) -> str:
        parts = [f"line {self.line}"] if self.line else []
        parts += [f"through {self.through}"] if self.through else []
        return f" ({', '.join(parts)})" if parts else ""
