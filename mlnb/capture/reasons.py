"""Why a name is needed, in the words of a refusal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why a name is needed: the cell's line that reads it, and through which of the session's names."""

    line: int | None
    through: str | None = None

    def __str__(self) -> str:
        words = [f"line {self.line}"] if self.line else []
        words += [f"through {self.through}"] if self.through else []
        return f" ({', '.join(words)})" if words else ""
