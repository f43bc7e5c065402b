"""The cell itself: whether it is a program that can run on its own, and what it defines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlnb.capture.names.analysis import CellNames, analyse
from mlnb.capture.session import Definition, Session
from mlnb.capture.ship import secrets
from mlnb.capture.source.history import bound_names, first_line
from mlnb.errors import CannotShip


@dataclass(frozen=True)
class CellSource:
    """A cell's body.

    Attributes
    ----------
    text
        its source, lines as the person wrote them.
    tree
        its tree.
    label
        what the person knows the cell by.
    offset
        what to add to a line of ``text`` for the cell's own line.
    names
        what it does to names.
    """

    text: str
    tree: ast.Module
    label: str
    offset: int
    names: CellNames

    def line(self, name: str) -> int | None:
        """The cell's line that first reads ``name``."""
        found = self.names.lines.get(name)
        return None if found is None else found + self.offset

    def script(self) -> str:
        """Its text for the end of a script, where ``from __future__`` imports can't stand."""
        lines = self.text.splitlines()
        for node in self.tree.body:
            if _is_future(node):
                for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                    lines[number] = f"# {lines[number]}"
        return "\n".join(lines)

    def definitions(self) -> Iterator[Definition]:
        """What the session itself runs afterwards."""
        for node in self.tree.body:
            names = bound_names(node)
            if names:
                start = first_line(node)
                text = "\n".join(self.text.splitlines()[start - 1 : node.end_lineno])
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    text = ast.get_source_segment(self.text, node) or text
                yield Definition(tuple(names), text, start + self.offset)


def read(text: str, session: Session, label: str, line: int, postponed: bool) -> CellSource:
    """Read a cell's body.

    Parameters
    ----------
    line
        the cell's line of the body's first line.
    postponed
        whether the session's annotations aren't evaluated.

    Raises
    ------
    CannotShip
        if it isn't Python, needs IPython or a person at the keyboard, is empty, or holds a credential.
    """
    offset = line - 1
    tree = _parse(text, session, offset)
    _check_syntax(tree, text, offset)
    if not tree.body:
        raise CannotShip("the cell has nothing to run: write the training below the %%train line.")
    for what, at in secrets.in_source(tree):
        raise CannotShip(
            f"line {at + offset} ({what}) looks like a credential, and the script is written to disk. Read it "
            "from the environment (--env NAME and os.environ['NAME']), or put it in a variable and name that with --in."
        )
    return CellSource(text, tree, label, offset, analyse(text, postponed=postponed))


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _parse(text: str, session: Session, offset: int) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        for number, row in enumerate(text.splitlines(), 1):
            if _IPYTHON.match(row) and _is_ipython(row.strip(), session):
                raise CannotShip(
                    f"line {number + offset}: `{row.strip()}` needs IPython, which a run has not. "
                    "Put it in a cell of its own."
                ) from None
        raise _syntax(error, text, offset) from None


_IPYTHON = re.compile(r"^\s*(?:[%!?]|[\w, .\[\]]+=\s*[%!]|.*\?\s*$)")


def _is_ipython(row: str, session: Session) -> bool:
    """Whether IPython makes something of a line that Python can't."""
    return row.startswith(("%", "!")) or "get_ipython()" in session.transform(row + "\n")


def _syntax(error: SyntaxError, text: str, offset: int) -> CannotShip:
    line = error.lineno or 1
    rows = text.splitlines()
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    shown = row.lstrip()
    caret = max(0, (error.offset or 1) - 1 - (len(row) - len(shown)))
    return CannotShip(f"line {line + offset}: {error.msg}\n    {shown}\n    {' ' * caret}^")


def _check_syntax(tree: ast.Module, text: str, offset: int) -> None:
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in bound:
            if node.func.id == "get_ipython":
                raise CannotShip(
                    f"line {node.lineno + offset}: get_ipython() needs IPython, which a run has not. "
                    "Put it in a cell of its own."
                )
            if node.func.id == "input":
                raise CannotShip(
                    f"line {node.lineno + offset}: input() would wait for a keyboard that a run has not. "
                    "Ask in an earlier cell and use the answer's variable here."
                )
    for node in _outside_functions(tree):
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            raise CannotShip(
                f"line {node.lineno + offset}: await needs an event loop, which a script has not at top level. "
                "Put it into an `async def` and call asyncio.run() on that."
            )
    try:
        compile(text, "<cell>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _syntax(error, text, offset) from None


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from _outside_functions(node)
