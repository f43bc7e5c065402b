"""The program: imports, values, definitions and data in an order that runs, then the cell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mlnb.errors import CannotShip
from mlnb.task import Segment

HEADER = """\
# Written by mlnb: a notebook's cell and what it needs.
# It runs by itself where this file is: torchrun --nproc-per-node 1 script.py
"""


@dataclass
class Part:
    """A statement before the cell.

    Attributes
    ----------
    name
        what it binds.
    lines
        its text.
    eager
        names that must be bound before it runs.
    position
        sorts parts as the session ran them.
    source, origin, lead
        where it was written: the label and line of ``lines[lead]``; no label for what capture made up.
    """

    name: str
    lines: list[str]
    eager: set[str] = field(default_factory=set)
    position: tuple[int, int] = (-1, 0)
    source: str = ""
    origin: int = 0
    lead: int = 0
    count: int = 0


def order(
    parts: Mapping[str, Part], data: Collection[str], needs: Callable[[str], Collection[str]]
) -> list[Part | list[str]]:
    """Put statements and data into an order that runs.

    Parameters
    ----------
    data
        names that come from the session's data.
    needs
        names of the parts that must stand before a name's data can be loaded.

    Returns
    -------
    list
        parts, and lists of names for streams of data; nearly always one list, at the end.

    Raises
    ------
    CannotShip
        if definitions need each other.
    """
    waiting = sorted(parts.values(), key=lambda part: part.position)
    loaded: set[str] = set()
    done: list[Part | list[str]] = []

    def missing(names: Collection[str]) -> set[str]:
        bound = {part.name for part in done if isinstance(part, Part)} | loaded
        return {name for name in names if (name in parts or name in data) and name not in bound}

    while waiting:
        ready = next((part for part in waiting if not missing(part.eager - {part.name})), None)
        if ready is not None:
            waiting.remove(ready)
            done.append(ready)
            continue
        stream = [name for name in data if name not in loaded and not missing(needs(name))]
        if not any(name in part.eager for part in waiting for name in stream):
            names = ", ".join(part.name for part in waiting)
            raise CannotShip(f"{names}: each needs another one to be defined first. Define them in one new cell.")
        loaded.update(stream)
        done.append(stream)
    rest = [name for name in data if name not in loaded]
    return [*done, rest] if rest else done


class Script:
    """Collects lines and remembers where they were written."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.segments: list[Segment] = []

    def add(self, lines: Sequence[str]) -> None:
        """Add lines that capture made."""
        self._lines += [line for text in lines for line in text.split("\n")]

    def gap(self, size: int = 1) -> None:
        """Add empty lines."""
        while self._lines and not self._lines[-1].strip():
            self._lines.pop()
        if self._lines:
            self._lines += [""] * size

    def part(self, part: Part) -> None:
        """Add a statement."""
        start = len(self._lines) + 1
        self.add(part.lines)
        if part.source:
            count = part.count or len(self._lines) - start + 1 - part.lead
            self.segments.append(Segment(start + part.lead, count, part.source, part.origin))

    def cell(self, text: str, label: str, line: int) -> None:
        """Add the cell itself, whose first line is the cell's line ``line``."""
        lines = text.split("\n")
        self.segments.append(Segment(len(self._lines) + 1, len(lines), label, line))
        self._lines += lines

    @property
    def text(self) -> str:
        """The program."""
        return "\n".join(self._lines).rstrip("\n") + "\n"
