"""Cell: reads the cell's source, and refuses one that can't run as a program."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mlnb.capture.cell import magics
from mlnb.capture.names.analysis import CellNames, analyse
from mlnb.capture.session import Session
from mlnb.capture.ship import secrets
from mlnb.capture.source.nodes import source_lines
from mlnb.errors import CannotShip


@dataclass(frozen=True)
class CellSource:
    """A cell's body.

    Attributes
    ----------
    text
        its source, as the user wrote it.
    tree
        its syntax tree.
    label
        what to call the cell in messages.
    line_offset
        what to add to a line of ``text`` to get the cell's line.
    names
        what it does to the session's names.
    """

    text: str
    tree: ast.Module
    label: str
    line_offset: int
    names: CellNames

    def line(self, name: str) -> int | None:
        """The cell's line that first reads ``name``."""
        line = self.names.lines.get(name)
        return None if line is None else line + self.line_offset

    def script(self) -> str:
        """Its text for the end of the script, ``from __future__`` imports (which must come first) commented out."""
        lines = source_lines(self.text)
        for node in self.tree.body:
            if _is_future(node):
                for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                    lines[number] = f"# {lines[number]}"
        return "\n".join(lines)


def read(text: str, session: Session, label: str, line: int, postponed: bool) -> CellSource:
    """Read a cell's body.

    Parameters
    ----------
    label
        what to call the cell in messages.
    line
        the cell's line of the body's first line.
    postponed
        whether the session has switched off the evaluation of annotations.

    Raises
    ------
    CannotShip
        if it isn't Python, needs IPython or keyboard input, is empty, or holds a credential.
    """
    offset = line - 1
    text = magics.rewrite(text, session.transform, offset)
    tree = _parse(text, offset)
    _check_runnable(tree, text, offset)
    if not tree.body:
        raise CannotShip("the cell has nothing to run: write the training code below the %%train line.")
    for what, at in secrets.find_in_source(tree):
        raise CannotShip(
            f"line {at + offset} ({what}) looks like a credential, and the script is written to disk. Read it from the "
            "environment (--env NAME and os.environ['NAME']), or put it in a variable and add --in with its name."
        )
    return CellSource(text, tree, label, offset, analyse(text, postponed=postponed))


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _parse(text: str, offset: int) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise _syntax_refusal(error, text, offset) from None


def _syntax_refusal(error: SyntaxError, text: str, offset: int) -> CannotShip:
    number = error.lineno or 1
    lines = source_lines(text)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    stripped = line.lstrip()
    caret = max(0, (error.offset or 1) - 1 - (len(line) - len(stripped)))
    return CannotShip(f"line {number + offset}: {error.msg}\n    {stripped}\n    {' ' * caret}^")


def _check_runnable(tree: ast.Module, text: str, offset: int) -> None:
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in assigned:
            if node.func.id == "get_ipython":
                raise CannotShip(
                    f"line {node.lineno + offset}: get_ipython() needs IPython, which a run doesn't have. "
                    "Put it in a separate cell."
                )
            if node.func.id == "input":
                raise CannotShip(
                    f"line {node.lineno + offset}: input() needs a keyboard, which a run doesn't have. "
                    "Call it in an earlier cell and use its result here."
                )
    try:
        compile(text, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        raise _syntax_refusal(error, text, offset) from None
