"""Formats tables as plain text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

_SHORT = 24
"""Characters of a cell that stays in one line."""


def as_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text; long cells are truncated."""
    lines = [tuple(header), *(tuple(_short(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML, with header cells for screen readers."""
    header_cells = "".join(f'<th style="text-align:left">{html.escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_style(cell)}">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{header_cells}</tr></thead><tbody>{body}</tbody></table>"


def _style(cell: str) -> str:
    """Short cells, as names and times, are not wrapped."""
    return "text-align:left;white-space:nowrap" if len(cell) <= _SHORT else "text-align:left"


def _short(cell: str) -> str:
    return cell if len(cell) <= 48 else cell[:47] + "…"
