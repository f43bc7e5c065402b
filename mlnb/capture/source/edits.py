"""Pieces of source: cut out whole lines, replace expressions, keep the number of lines."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mlnb.capture.source.history import Found


@dataclass(frozen=True)
class Edit:
    """Replace what stands at a node's place by ``text``."""

    node: ast.expr
    text: str


@dataclass
class Piece:
    """Lines of a cell.

    Attributes
    ----------
    lines
        the text, a line each.
    indent
        white space before the first of them.
    """

    lines: list[str]
    indent: str

    def nested(self, header: str) -> list[str]:
        """The lines at the top level, or, if they are indented, under ``header`` as they are.

        They aren't shifted: that would change texts that go over several lines.
        """
        return [header, *self.lines] if self.indent else self.lines


def cut(found: Found, edits: list[Edit], name: str | None = None) -> Piece:
    """The lines of a ``def`` or ``class`` statement.

    Parameters
    ----------
    edits
        expressions to replace.
    name
        the name to define it as, if it isn't its own.
    """
    node = found.node
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    lines = found.cell.text.splitlines()
    if name is not None and name != node.name:
        row = lines[node.lineno - 1]
        keyword = "class" if isinstance(node, ast.ClassDef) else "def"
        start = row.index(keyword, _column(row, node.col_offset)) + len(keyword)
        at = row.index(node.name, start)
        lines[node.lineno - 1] = row[:at] + name + row[at + len(node.name) :]
        shift = (node.lineno, at, len(name.encode()) - len(node.name.encode()))
    else:
        shift = (0, 0, 0)
    for edit in sorted(edits, key=lambda e: (e.node.lineno, e.node.col_offset), reverse=True):
        _replace(lines, edit, shift)
    first = found.first_line - 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    return Piece(lines[first : node.end_lineno], indent)


def _replace(lines: list[str], edit: Edit, shift: tuple[int, int, int]) -> None:
    node = edit.node
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start, end = node.col_offset, node.end_col_offset
    row, at, by = shift
    if node.lineno == row and start > at:
        start += by
    if node.end_lineno == row and end > at:
        end += by
    head = lines[node.lineno - 1].encode()[:start].decode()
    tail = lines[node.end_lineno - 1].encode()[end:].decode()
    spanned = node.end_lineno - node.lineno
    text = f"({edit.text}" if spanned else edit.text
    replaced = [f"{head}{text}", *[""] * (spanned - 1), f"){tail}"] if spanned else [f"{head}{text}{tail}"]
    lines[node.lineno - 1 : node.end_lineno] = replaced


def expression(found: Found) -> str:
    """The text of an expression, in brackets if it goes over several lines."""
    text = ast.get_source_segment(found.cell.text, found.node)
    if text is None:
        raise ValueError(f"no source for an expression of {found.cell.label}")
    return f"({text})" if "\n" in text else text


def _column(line: str, offset: int) -> int:
    """The column in characters of a column in bytes of UTF-8."""
    return len(line.encode()[:offset].decode())
