"""Edits: cuts definitions out of a cell and replaces expressions in them, without changing the number of lines."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mlnb.capture.source.nodes import DefNode, SourceNode, source_lines


@dataclass(frozen=True)
class Edit:
    """Replaces the source of ``node`` by ``text``."""

    node: ast.expr
    text: str


@dataclass
class Excerpt:
    """Lines of a cell.

    Attributes
    ----------
    lines
        the lines.
    indent
        white space at the start of the first of them.
    """

    lines: list[str]
    indent: str

    def nested(self, header: str) -> list[str]:
        """The lines at the top level, or, if they are indented, under ``header`` as they are.

        They aren't dedented: that would change strings that span several lines.
        """
        return [header, *self.lines] if self.indent else self.lines


@dataclass(frozen=True)
class _Rename:
    """A new name in a line: columns (in bytes) after ``column`` have moved by ``shift``."""

    line: int = 0
    column: int = 0
    shift: int = 0

    def moved(self, line: int, column: int) -> int:
        """Where the text that was at ``column`` of ``line`` is now."""
        return column + self.shift if line == self.line and column > self.column else column


def cut(source: SourceNode, edits: list[Edit], name: str | None = None) -> Excerpt:
    """The lines of a ``def`` or ``class`` statement.

    Parameters
    ----------
    edits
        expressions to replace.
    name
        the name to define it as, if it isn't its own.
    """
    node = source.node
    assert isinstance(node, DefNode)
    lines = source_lines(source.cell.text)
    rename = _Rename()
    if name is not None and name != node.name:
        line = lines[node.lineno - 1]
        keyword = "class" if isinstance(node, ast.ClassDef) else "def"
        start = line.index(keyword, _characters(line, node.col_offset)) + len(keyword)
        column = line.index(node.name, start)
        lines[node.lineno - 1] = line[:column] + name + line[column + len(node.name) :]
        rename = _Rename(node.lineno, column, len(name.encode()) - len(node.name.encode()))
    for edit in sorted(edits, key=lambda e: (e.node.lineno, e.node.col_offset), reverse=True):
        _apply(edit, lines, rename)
    first = source.first_line - 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    return Excerpt(lines[first : node.end_lineno], indent)


def _apply(edit: Edit, lines: list[str], rename: _Rename) -> None:
    node = edit.node
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start = rename.moved(node.lineno, node.col_offset)
    end = rename.moved(node.end_lineno, node.end_col_offset)
    before = lines[node.lineno - 1].encode()[:start].decode()
    after = lines[node.end_lineno - 1].encode()[end:].decode()
    extra_lines = node.end_lineno - node.lineno
    if extra_lines:  # brackets, so that the expression may span as many lines as before
        replaced = [f"{before}({edit.text}", *[""] * (extra_lines - 1), f"){after}"]
    else:
        replaced = [f"{before}{edit.text}{after}"]
    lines[node.lineno - 1 : node.end_lineno] = replaced


def expression(source: SourceNode) -> str:
    """The text of an expression, in brackets if it spans several lines."""
    text = ast.get_source_segment(source.cell.text, source.node)
    if text is None:
        raise ValueError(f"no source for an expression of {source.cell.label}")
    return f"({text})" if "\n" in text else text


def _characters(line: str, offset: int) -> int:
    """The column in characters of a column in bytes of UTF-8."""
    return len(line.encode()[:offset].decode())
