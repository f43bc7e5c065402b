"""Code: refers to the code of functions by where its source is, so that the other process compiles it itself.

So no bytecode is sent for what a run's script or a module contains, and the two processes may have different versions
of Python. Only code without a source that both have (made by ``exec``, or by a library from a string) is sent as
bytecode, which needs the same version.
"""

from __future__ import annotations
import __future__

import ast
import functools
import importlib
import importlib.util
import linecache
import marshal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from mlnb.node.rank.tracebacks import source_location
from mlnb.task import Segment

CodeLocation = tuple[Any, ...]
"""Where code is: ``("script", path, line, ordinal)``, ``("module", name, path, line, ordinal)`` or ``("bytes", magic,
data)``. The path is the dotted name within the file, the ordinal counts equal names in one line."""

_Key = tuple[str, int, int]

_INLINED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})
"""Code that Python 3.12 and later don't have as a code object."""


class CodeNotFound(Exception):
    """The source that code refers to isn't here."""


class ScriptCode:
    """The code of a run's script, as the run or as the session that gets the results compiles it.

    Parameters
    ----------
    script
        the text of ``script.py``.
    filename
        the file name that the run gives to all of it. If it is empty, each statement gets the name and the lines of the
        cell that it comes from.
    segments
        where the script's lines come from.
    """

    def __init__(self, script: str, filename: str = "", segments: tuple[Segment, ...] = ()) -> None:
        self._script, self._filename, self._segments = script, filename, segments

    def location(self, code: CodeType) -> CodeLocation | None:
        """Where ``code`` is in the script; ``None`` if it isn't."""
        if code.co_filename != self._filename:
            return None
        keys = self._keys_by_start.get((code.co_name, code.co_firstlineno), [])
        if len(keys) != 1:
            keys = [key for key in keys if self._codes[key] == code]
        return ("script", *keys[0]) if keys else None

    def code(self, key: _Key) -> CodeType:
        """The code at a location in the script.

        Raises
        ------
        CodeNotFound
            if there is none.
        """
        return _at(self._codes, key, "the script of the run")

    @functools.cached_property
    def _codes(self) -> dict[_Key, CodeType]:
        tree = ast.parse(self._script)
        flags = future_flags(tree) | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        if self._filename:
            return _by_key([(compile(tree, self._filename, "exec", flags, dont_inherit=True), 0)])
        show_source(self._script, self._segments)
        return _by_key(self._compiled_as_cells(tree, flags))

    def _compiled_as_cells(self, tree: ast.Module, flags: int) -> Iterator[tuple[CodeType, int]]:
        for node in tree.body:
            label, line = source_location(self._segments, first_line_of(node)) or ("mlnb", first_line_of(node))
            shift = line - first_line_of(node)
            ast.increment_lineno(node, shift)
            yield compile(ast.Module([node], []), f"<{label}>", "exec", flags, dont_inherit=True), shift

    @functools.cached_property
    def _keys_by_start(self) -> dict[tuple[str, int], list[_Key]]:
        keys: dict[tuple[str, int], list[_Key]] = {}
        for key, code in self._codes.items():
            keys.setdefault((code.co_name, code.co_firstlineno), []).append(key)
        return keys


def first_line_of(node: ast.stmt) -> int:
    """A statement's first line, decorators included."""
    lines: list[int] = [node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]
    return min(lines)


def show_source(script: str, segments: tuple[Segment, ...]) -> None:
    """Let ``inspect`` and tracebacks find the source of code that has the name of a cell as its file name."""
    lines = script.split("\n")
    for segment in segments:
        filename = f"<{segment.source}>"
        cached = linecache.cache.get(filename)
        shown: list[str] = list(cached[2]) if cached is not None and len(cached) == 4 else []
        shown += ["\n"] * (segment.origin + segment.count - 1 - len(shown))
        first = segment.start - 1
        shown[segment.origin - 1 : segment.origin - 1 + segment.count] = [
            line + "\n" for line in lines[first : first + segment.count]
        ]
        linecache.cache[filename] = (sum(map(len, shown)), None, shown, filename)


def location_of(code: CodeType, module: str, script: ScriptCode | None) -> CodeLocation:
    """Where ``code`` is, of a function whose globals are those of ``module``."""
    if script is not None and (location := script.location(code)) is not None:
        return location
    key = _module_codes(module).key_of(code)
    if key is not None:
        return ("module", module, *key)
    return ("bytes", importlib.util.MAGIC_NUMBER, marshal.dumps(code))


def find(location: CodeLocation, script: ScriptCode | None) -> CodeType:
    """The code at a location.

    Raises
    ------
    CodeNotFound
        if this process doesn't have its source, or if it is bytecode of another version of Python.
    """
    kind, *rest = location
    if kind == "script":
        if script is None:
            raise CodeNotFound("the script of the run isn't known here")
        return script.code((rest[0], rest[1], rest[2]))
    if kind == "module":
        importlib.import_module(rest[0])
        return _at(_module_codes(rest[0]).codes, (rest[1], rest[2], rest[3]), rest[0])
    magic, data = rest
    if magic != importlib.util.MAGIC_NUMBER:
        raise CodeNotFound("code without source comes from another version of Python")
    code = marshal.loads(data)  # noqa: S302 - from a stream, whose writer is trusted
    assert isinstance(code, CodeType)
    return code


class _Codes:
    """The code of a module."""

    def __init__(self, codes: dict[_Key, CodeType]) -> None:
        self.codes = codes
        self._keys: dict[CodeType, _Key] = {code: key for key, code in codes.items()}

    def key_of(self, code: CodeType) -> _Key | None:
        return self._keys.get(code)


def _module_codes(name: str) -> _Codes:
    module = sys.modules.get(name)
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if not hasattr(loader, "get_code"):
        return _Codes({})
    try:
        modified = Path(getattr(module, "__file__", None) or "").stat().st_mtime_ns
    except OSError:
        modified = 0
    return _loaded_codes(name, modified)


@functools.lru_cache(maxsize=128)
def _loaded_codes(name: str, _modified: int) -> _Codes:
    loader: Any = sys.modules[name].__spec__.loader  # type: ignore[union-attr]
    try:
        code = loader.get_code(name)
    except (ImportError, OSError, SyntaxError):
        code = None
    return _Codes(_by_key([(code, 0)]) if code is not None else {})


def _by_key(programs: Iterable[tuple[CodeType, int]]) -> dict[_Key, CodeType]:
    """The code within programs, each of which stands so many lines after where the script has it."""
    codes: dict[_Key, CodeType] = {}
    for program, shift in programs:
        for path, code in _inner(program, ""):
            line, ordinal = code.co_firstlineno - shift, 0
            while (path, line, ordinal) in codes:
                ordinal += 1
            codes[path, line, ordinal] = code
    return codes


def _inner(code: CodeType, path: str) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = path if constant.co_name in _INLINED else f"{path}.{constant.co_name}".lstrip(".")
            yield inner, constant
            yield from _inner(constant, inner)


def _at(codes: dict[_Key, CodeType], key: _Key, where: str) -> CodeType:
    """The code at ``key``, or, in another version of the file, the only code of that name."""
    if key in codes:
        return codes[key]
    same_name = [code for (path, _, _), code in codes.items() if path == key[0]]
    if len(same_name) != 1:
        raise CodeNotFound(f"{key[0]} was not found in {where}")
    return same_name[0]


def future_flags(tree: ast.Module) -> int:
    """Compiler flags of a script's ``__future__`` imports, which apply to all its parts."""
    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for name in node.names:
                flags |= getattr(__future__, name.name).compiler_flag
    return flags
