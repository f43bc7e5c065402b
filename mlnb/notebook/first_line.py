"""``%%train`` need not be a cell's first line: empty lines and comments may come before it."""

from __future__ import annotations

_MAGIC = "%%train"


def move_magic_up(lines: list[str]) -> list[str]:
    """The lines of a cell with ``%%train`` first, if only empty lines and comments come before it.

    What came before it comes after it, so that the lines below keep their numbers.
    """
    for index, line in enumerate(lines):
        if line.startswith(_MAGIC) and not line[len(_MAGIC) : len(_MAGIC) + 1].isidentifier():
            return [_ended(line), *lines[:index], *lines[index + 1 :]] if index else lines
        if line.strip() and not line.lstrip().startswith("#"):
            break
    return lines


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n"
