"""Where the session's functions and classes were written: the cells that ran, and files run in ``__main__``.

Python keeps no source. What a live object's source is, is found by name and by position and then proved by
comparing compiled code, since cells are run again, names are bound again and files are edited.
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from mlnb.capture.names.analysis import magic_body

Defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
Importing = ast.Import | ast.ImportFrom
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """Python source that ran in the session.

    Attributes
    ----------
    text
        the source, without a ``%%time`` line or its like.
    label
        what a person knows it by: ``cell [3]`` or a file's name.
    order
        when it ran: later ones are larger.
    skipped
        lines above ``text`` in what the person wrote.
    """

    text: str
    label: str
    order: int
    skipped: int = 0

    @property
    def tree(self) -> ast.Module:
        """The parsed source; shared, not to be changed."""
        tree = parse(self.text)
        if tree is None:
            raise ValueError(f"{self.label} is not Python")
        return tree


@dataclass(frozen=True)
class Found:
    """A statement (or lambda) in a cell.

    Attributes
    ----------
    outer
        the functions and classes around it, outermost first; empty for one at the cell's top level.
    """

    cell: Cell
    node: ast.AST
    outer: tuple[ast.AST, ...] = ()

    @property
    def first_line(self) -> int:
        """Its first line in ``cell.text``, decorators included."""
        return first_line(self.node)

    @property
    def line(self) -> int:
        """Its first line as the person sees it."""
        return self.first_line + self.cell.skipped

    @property
    def position(self) -> tuple[int, int]:
        """Sorts by when it ran."""
        return self.cell.order, self.first_line


@functools.lru_cache(maxsize=2048)
def parse(text: str) -> ast.Module | None:
    """The tree of Python source, ``None`` if it isn't Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def first_line(node: ast.AST) -> int:
    """A node's first line, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    lines: list[int] = [node.lineno, *(decorator.lineno for decorator in decorators)]  # type: ignore[attr-defined]
    return min(lines)


def code_key(code: CodeType) -> Key:
    """What makes two code objects the same program, wherever their source stands."""
    constants = tuple(
        code_key(constant) if isinstance(constant, CodeType) else (type(constant).__name__, repr(constant))
        for constant in code.co_consts
    )
    return (
        code.co_name,
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags & 0x2FF,
    )


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """The code objects inside of ``code``."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from all_codes(constant)


def keys(found: Found, flags: int = 0) -> frozenset[Key]:
    """The :func:`code_key` of all code in the statement of ``found``, as IPython or Python compiles it.

    IPython compiles each statement on its own, Python (``%run``, ``%%time``) all at once; calls of what the same
    text imports come out differently.
    """
    node = found.outer[0] if found.outer else found.node
    return _keys(found.cell.text, *_place(node), type(node).__name__, flags)


@functools.lru_cache(maxsize=4096)
def _keys(text: str, line: int, column: int, kind: str, flags: int) -> frozenset[Key]:
    tree = parse(text)
    assert tree is not None
    node = next(n for n in ast.walk(tree) if _place(n) == (line, column) and type(n).__name__ == kind)
    found: set[Key] = set()
    try:
        alone = ast.Expression(node) if isinstance(node, ast.Lambda) else ast.Module([node], [])  # type: ignore[list-item]
        mode = "eval" if isinstance(node, ast.Lambda) else "exec"
        code = compile(alone, "<cell>", mode, flags, dont_inherit=True)
        found |= {code_key(inner) for inner in all_codes(code)}
    except (SyntaxError, ValueError):
        return frozenset()  # a method with super() of its own, say
    first, last = first_line(node), node.end_lineno or line  # type: ignore[attr-defined]
    within = [key for at, key in _whole(text, flags) if first <= at <= last]
    if isinstance(node, ast.Lambda) and len(within) > 1:
        return frozenset(found)  # which of several in these lines is which can't be told
    return frozenset(found | set(within))


@functools.lru_cache(maxsize=512)
def _whole(text: str, flags: int) -> tuple[tuple[int, Key], ...]:
    try:
        code = compile(text, "<cell>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return ()  # await at the top level
    return tuple((inner.co_firstlineno, code_key(inner)) for inner in all_codes(code))


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", -1), getattr(node, "col_offset", -1)


def flags_of(code: CodeType) -> int:
    """The ``from __future__`` flags that code was compiled with."""
    return code.co_flags & __future__.annotations.compiler_flag


def defines(found: Found, code: CodeType) -> bool:
    """Whether ``found`` is the source of ``code``."""
    return code_key(code) in keys(found, flags_of(code))


@functools.lru_cache(maxsize=2048)
def _bindings(text: str) -> dict[str, tuple[ast.stmt, ...]]:
    """Name → the definitions and imports at the top level of ``text`` that bind it, in order."""
    found: dict[str, tuple[ast.stmt, ...]] = {}
    tree = parse(text)
    for node in top_level(tree) if tree else ():
        for name in bound_names(node):
            found[name] = (*found.get(name, ()), node)
    return found


def top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements that run in the session's own scope, those under ``if``, ``try``, ``with`` … too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from top_level(node)


MAKERS = frozenset(
    {"namedtuple", "NamedTuple", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "make_dataclass", "TypedDict"}
    | {"TypeVar", "ParamSpec", "NewType", "type", "new_class"}
)
"""Functions whose result is a definition: ``Point = namedtuple("Point", "x y")``."""


def makes(node: ast.expr | None) -> bool:
    """Whether an expression is a lambda, or a call of one of :data:`MAKERS`."""
    if isinstance(node, ast.Call) and node.args:
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        return name in MAKERS and (name != "type" or len(node.args) == 3)
    return isinstance(node, ast.Lambda)


def bound_names(node: ast.stmt) -> list[str]:
    """The names that a definition, an import or ``name = lambda`` binds; none for other statements."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign) and makes(node.value):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and makes(node.value):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    return []


class Sources:
    """The source that ran in a session.

    Parameters
    ----------
    history
        the session's cells; ``history[n]`` is cell [n].
    transform
        IPython's transformation of a cell to Python.
    """

    def __init__(self, history: Sequence[str], transform: Callable[[str], str]) -> None:
        self._transform = transform
        self.cells = [cell for number, text in enumerate(history) if (cell := self._cell(number, text))]
        self._by_text = {cell.text.rstrip("\n"): cell for cell in self.cells}
        self._files: dict[str, Cell | None] = {}

    def _cell(self, number: int, text: str) -> Cell | None:
        if not text.strip():
            return None
        if parse(text) is None:
            text = _transformed(self._transform, text)
        skipped = 0
        while (tree := parse(text)) is not None and (body := magic_body(tree)) is not None:
            text, skipped = body, skipped + 1
            if parse(text) is None:
                text = _transformed(self._transform, text)
        return Cell(text, f"cell [{number}]", number, skipped) if parse(text) is not None else None

    def bindings(self, name: str) -> Iterator[Found]:
        """The definitions and imports that bind ``name`` at a cell's top level, newest first."""
        for cell in reversed(self.cells):
            for node in reversed(_bindings(cell.text).get(name, ())):
                yield Found(cell, node)

    def star_imports(self) -> Iterator[tuple[Cell, str]]:
        """The modules of ``from module import *``, newest first."""
        for cell in reversed(self.cells):
            for node in reversed(_bindings(cell.text).get("*", ())):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield cell, node.module

    def imports_of(self, root: str) -> Iterator[tuple[Cell, str]]:
        """The dotted modules under ``root`` that ``import`` statements name, newest first."""
        for found in self.bindings(root):
            if isinstance(found.node, ast.Import):
                for alias in found.node.names:
                    if alias.name.split(".")[0] == root:
                        yield found.cell, alias.name

    def function(self, code: CodeType) -> Found | None:
        """The ``def`` or ``lambda`` that ``code`` comes from."""
        cell = self._file(code.co_filename)
        candidates: list[Cell] = [cell] if cell else []
        candidates += [cell for cell in reversed(self.cells) if code.co_name in cell.text or code.co_name == "<lambda>"]
        for cell in candidates:
            for found in _functions(cell, code.co_name):
                if defines(found, code):
                    return found
        return None

    def classes(self, qualname: str, filename: str | None) -> Iterator[Found]:
        """The ``class`` statements for ``qualname``, likeliest first."""
        name = qualname.rpartition(".")[2]
        cell = self._file(filename) if filename else None
        seen = set()
        for candidate in [*([cell] if cell else []), *reversed(self.cells)]:
            if candidate.text in seen or name not in candidate.text:
                continue
            seen.add(candidate.text)
            for found in reversed(list(_nested(candidate, candidate.tree, ()))):
                if isinstance(found.node, ast.ClassDef) and found.node.name == name and _qualname(found) == qualname:
                    yield found

    def _file(self, filename: str) -> Cell | None:
        """The cell or file that Python knows by ``filename``."""
        if filename not in self._files:
            text = "".join(linecache.getlines(filename))
            cell = None
            if text and parse(text) is not None:
                label = re.sub(r"^<ipython-input-(\d+)-\w+>$", r"cell [\1]", filename)
                cell = self._by_text.get(text.rstrip("\n")) or Cell(text, label.rpartition("/")[2], len(self.cells))
            self._files[filename] = cell
        return self._files[filename]


@functools.lru_cache(maxsize=256)
def _transformed(transform: Callable[[str], str], text: str) -> str:
    return transform(text)


def _functions(cell: Cell, name: str) -> Iterator[Found]:
    for found in _nested(cell, cell.tree, ()):
        if isinstance(found.node, ast.Lambda):
            if name == "<lambda>":
                yield found
        elif isinstance(found.node, (ast.FunctionDef, ast.AsyncFunctionDef)) and found.node.name == name:
            yield found


def _nested(cell: Cell, tree: ast.AST, outer: tuple[ast.AST, ...]) -> Iterator[Found]:
    """Every function, class and lambda of a cell with what is around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield Found(cell, node, outer)
            yield from _nested(cell, node, (*outer, node))
        else:
            yield from _nested(cell, node, outer)


def _qualname(found: Found) -> str:
    parts = []
    for node in (*found.outer, found.node):
        parts.append(getattr(node, "name", "<lambda>"))
        if not isinstance(node, ast.ClassDef):
            parts.append("<locals>")
    return ".".join(parts)
