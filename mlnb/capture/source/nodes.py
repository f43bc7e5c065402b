"""Nodes: statements of the cells that ran, and which names they define."""

from __future__ import annotations

import ast
import copy
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

DefNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Cell:
    """Python source that ran in the session.

    Attributes
    ----------
    text
        the source, without a ``%%time`` line or similar.
    label
        what to call it in messages: ``cell [3]`` or the name of a file.
    order
        when it ran: later cells have larger numbers.
    skipped_lines
        lines above ``text`` in the cell as the user wrote it.
    """

    text: str
    label: str
    order: int
    skipped_lines: int = 0

    @property
    def tree(self) -> ast.Module:
        """The parsed source; shared, must not be changed."""
        tree = parse(self.text)
        if tree is None:
            raise ValueError(f"{self.label} is not Python")
        return tree


@dataclass(frozen=True)
class SourceNode:
    """A statement (or lambda) in a cell.

    Attributes
    ----------
    enclosing
        the functions and classes around it, outermost first; empty at the cell's top level.
    """

    cell: Cell
    node: ast.AST
    enclosing: tuple[ast.AST, ...] = ()

    @property
    def first_line(self) -> int:
        """Its first line in ``cell.text``, decorators included."""
        return first_line(self.node)

    @property
    def line(self) -> int:
        """Its first line in the cell as the user wrote it."""
        return self.first_line + self.cell.skipped_lines

    @property
    def position(self) -> tuple[int, int]:
        """A sort key: when it ran."""
        return self.cell.order, self.first_line


def with_decorators(source: SourceNode, decorators: tuple[ast.expr, ...]) -> SourceNode:
    """A ``def`` or ``class`` statement with only these of its decorators, which must be the last ones."""
    if len(source.node.decorator_list) == len(decorators):  # type: ignore[attr-defined]
        return source
    return SourceNode(source.cell, _with_decorators(source.node, decorators), source.enclosing)


@functools.lru_cache(maxsize=1024)
def _with_decorators(node: ast.AST, decorators: tuple[ast.expr, ...]) -> ast.AST:
    stripped = copy.copy(node)
    stripped.decorator_list = list(decorators)  # type: ignore[attr-defined]
    return stripped


@functools.lru_cache(maxsize=2048)
def parse(text: str) -> ast.Module | None:
    """The tree of Python source; ``None`` if it isn't Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def source_lines(text: str) -> list[str]:
    """The lines of Python source, without line ends, as Python counts them.

    ``str.splitlines`` also splits at form feeds, U+2028 and others, which may be part of a string or a comment.
    """
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def first_line(node: ast.AST) -> int:
    """A node's first line, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    lines: list[int] = [node.lineno, *(decorator.lineno for decorator in decorators)]  # type: ignore[attr-defined]
    return min(lines)


def top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements that run in the session's own scope, including those inside ``if``, ``try`` or ``with``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from top_level(node)


def handler_names(tree: ast.AST) -> set[str]:
    """The names of exceptions at a cell's top level: ``except … as name`` deletes its name when it ends."""
    handlers = (handler for node in top_level(tree) for handler in getattr(node, "handlers", ()))
    return {handler.name for handler in handlers if handler.name}


DEFINING_CALLS = frozenset(
    {"namedtuple", "NamedTuple", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "make_dataclass", "TypedDict"}
    | {"TypeVar", "TypeVarTuple", "ParamSpec", "NewType", "type", "new_class"}
)
"""Functions whose result is a definition: ``Point = namedtuple("Point", "x y")``."""


def is_definition(node: ast.expr | None) -> bool:
    """Whether an expression is a lambda, or a call of one of :data:`DEFINING_CALLS`."""
    if isinstance(node, ast.Call) and node.args:
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        return name in DEFINING_CALLS and (name != "type" or len(node.args) == 3)
    return isinstance(node, ast.Lambda)


def defined_names(node: ast.stmt) -> list[str]:
    """The names that a definition, an import or ``name = lambda`` assigns; none for other statements."""
    if isinstance(node, DefNode):
        return [node.name]
    if isinstance(node, ast.Assign) and is_definition(node.value):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and is_definition(node.value):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    return []
