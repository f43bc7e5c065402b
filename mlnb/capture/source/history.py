"""History: finds the source of the session's functions and classes in the cells and files that ran.

Python keeps no source with a function. A candidate is found by name and position, and confirmed by comparing bytecode:
cells are run again, names are assigned again and files are edited.
"""

from __future__ import annotations

import ast
import functools
import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from types import CodeType

from mlnb.capture.names.analysis import magic_body
from mlnb.capture.source.bytecode import defines
from mlnb.capture.source.definition import names_of
from mlnb.capture.source.nodes import Cell, DefNode, SourceNode, defined_names, parse, top_level


@functools.lru_cache(maxsize=2048)
def _definitions_by_name(text: str) -> dict[str, tuple[ast.stmt, ...]]:
    """Name → the definitions and imports at the top level of ``text`` that assign it, in order."""
    statements: dict[str, tuple[ast.stmt, ...]] = {}
    tree = parse(text)
    for node in top_level(tree) if tree else ():
        for name in defined_names(node):
            statements[name] = (*statements.get(name, ()), node)
    return statements


class SourceHistory:
    """The source code that ran in a session, searchable by name, function and class.

    Parameters
    ----------
    history
        the session's cells; ``history[n]`` is cell [n].
    transform
        turns a cell with magics into Python, as IPython does.
    executed
        texts that the session has run by ``exec``, oldest first.

    Attributes
    ----------
    cells
        the cells, in the order in which they ran, after the texts that ``exec`` ran.
    """

    def __init__(self, history: Sequence[str], transform: Callable[[str], str], executed: Sequence[str] = ()) -> None:
        self._transform = transform
        self.cells = [Cell(text, "exec", 0) for text in executed if parse(text) is not None]
        self.cells += [cell for number, text in enumerate(history) if (cell := self._cell(number, text))]
        self._by_text = {cell.text.rstrip("\n"): cell for cell in self.cells}
        self._files: dict[str, Cell | None] = {}

    def _cell(self, number: int, text: str) -> Cell | None:
        if not text.strip():
            return None
        if parse(text) is None:
            text = _transformed(self._transform, text)
        skipped_lines = 0
        while (tree := parse(text)) is not None and (body := magic_body(tree)) is not None:
            text, skipped_lines = body, skipped_lines + 1
            if parse(text) is None:
                text = _transformed(self._transform, text)
        return Cell(text, f"cell [{number}]", number, skipped_lines) if parse(text) is not None else None

    def definitions(self, name: str) -> Iterator[SourceNode]:
        """The definitions and imports that assign ``name`` at a cell's top level, newest first."""
        for cell in reversed(self.cells):
            for node in reversed(_definitions_by_name(cell.text).get(name, ())):
                yield SourceNode(cell, node)

    def plain_assignment(self, name: str) -> SourceNode | None:
        """The newest statement that binds ``name``, if it is ``name = function(…)`` at a cell's top level."""
        found = self.binding(name)
        if found is None or not isinstance(found.node, ast.Assign) or not isinstance(found.node.value, ast.Call):
            return None
        named = any(isinstance(target, ast.Name) and target.id == name for target in found.node.targets)
        return found if named else None

    def binding(self, name: str) -> SourceNode | None:
        """The newest statement at a cell's top level that binds ``name``."""
        for cell in reversed(self.cells):
            if name not in cell.text or (cell.skipped_lines and cell is self.cells[-1]):  # that is the cell to be sent
                continue
            for node in reversed(cell.tree.body):
                if name in names_of(node).stores:
                    return SourceNode(cell, node)
        return None

    def star_imports(self) -> Iterator[tuple[Cell, str]]:
        """The modules of ``from module import *``, newest first."""
        for cell in reversed(self.cells):
            for node in reversed(_definitions_by_name(cell.text).get("*", ())):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield cell, node.module

    def imports(self) -> Iterator[tuple[Cell, ast.Import | ast.ImportFrom]]:
        """The import statements at the top level, in the order in which they ran."""
        for cell in self.cells:
            for node in top_level(cell.tree):
                if isinstance(node, ast.Import) or (
                    isinstance(node, ast.ImportFrom) and node.module and not node.level
                ):
                    yield cell, node

    def function(self, code: CodeType) -> SourceNode | None:
        """The ``def`` or ``lambda`` that ``code`` was compiled from."""
        cell = self._file(code.co_filename)
        for candidate in [*([cell] if cell else []), *reversed(self.cells)]:
            if candidate is cell or code.co_name in candidate.text or code.co_name == "<lambda>":
                for source in _functions(candidate, code.co_name):
                    if defines(source, code):
                        return source
        return None

    def classes(self, qualname: str, filename: str | None) -> Iterator[SourceNode]:
        """The ``class`` statements for ``qualname``, likeliest first: those of ``filename``, then the newest."""
        name = qualname.rpartition(".")[2]
        cell = self._file(filename) if filename else None
        searched = set()
        for candidate in [*([cell] if cell else []), *reversed(self.cells)]:
            if candidate.text in searched or name not in candidate.text:
                continue
            searched.add(candidate.text)
            for source in reversed(list(_nested(candidate, candidate.tree, ()))):
                if isinstance(source.node, ast.ClassDef) and source.node.name == name and _qualname(source) == qualname:
                    yield source

    def _file(self, filename: str) -> Cell | None:
        """The cell or file for the ``co_filename`` of a code object."""
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


def _functions(cell: Cell, name: str) -> Iterator[SourceNode]:
    for source in _nested(cell, cell.tree, ()):
        if isinstance(source.node, ast.Lambda):
            if name == "<lambda>":
                yield source
        elif isinstance(source.node, (ast.FunctionDef, ast.AsyncFunctionDef)) and source.node.name == name:
            yield source


def _nested(cell: Cell, tree: ast.AST, enclosing: tuple[ast.AST, ...]) -> Iterator[SourceNode]:
    """Every function, class and lambda of a cell."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, DefNode | ast.Lambda):
            yield SourceNode(cell, node, enclosing)
            yield from _nested(cell, node, (*enclosing, node))
        else:
            yield from _nested(cell, node, enclosing)


def _qualname(source: SourceNode) -> str:
    parts = []
    for node in (*source.enclosing, source.node):
        parts.append(getattr(node, "name", "<lambda>"))
        if not isinstance(node, ast.ClassDef):
            parts.append("<locals>")
    return ".".join(parts)
