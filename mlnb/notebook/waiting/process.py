"""What a run may change in the session's process besides objects and files: variables, folders, settings of libraries.

Random numbers are left out: a session may go on with other ones (:mod:`mlnb.notebook.lent_generators`).
"""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from mlnb.capture import Captured
from mlnb.capture.names.effects import dotted_name
from mlnb.capture.replay.of_cell import effects_of_cell
from mlnb.capture.replay.statements import EffectFinder
from mlnb.capture.source.nodes import Cell
from mlnb.notebook.waiting.graph import Reached
from mlnb.notebook.waiting.lookups import identifier

_ENVIRON = frozenset({"environ", "environb", "getenv", "env", "putenv", "unsetenv"})
_COMMANDS = frozenset({"system", "getoutput", "Popen", "check_output", "check_call"})
_FOLDER = frozenset({"getcwd", "getcwdb", "cwd", "abspath", "absolute", "realpath", "resolve", "chdir", "cd", "pwd"})
_ONLY_SPEED = re.compile(r"torch\.backends\b")


@dataclass(frozen=True)
class ProcessChanges:
    """What a run may change in the session's process.

    Attributes
    ----------
    environ, folder
        whether it may change environment variables, or the current folder.
    import_path
        whether it may change where modules are imported from.
    libraries
        the libraries that it sets something in, and the statements that do.
    """

    environ: bool = False
    folder: bool = False
    import_path: bool = False
    libraries: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def concern(self, reads: ProcessReads) -> bool:
        """Whether a cell that reads ``reads`` must wait for them. One that sets the same itself need not."""
        return (
            (self.environ and bool(reads.identifiers & (_ENVIRON | _COMMANDS)))
            or (self.folder and bool(reads.identifiers & (_FOLDER | _COMMANDS)))
            or (self.import_path and (reads.looks_for_modules or {"sys", "path"} <= reads.identifiers))
            or any(
                library in reads.libraries and not statements <= reads.sets
                for library, statements in self.libraries.items()
            )
        )


@dataclass(frozen=True)
class ProcessReads:
    """What a cell may read of the process.

    Attributes
    ----------
    identifiers
        names, attributes, and names of magics.
    libraries
        the top-level modules that it uses.
    looks_for_modules
        whether it imports what isn't loaded yet.
    sets
        the statements in it that set something in a library.
    """

    identifiers: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    looks_for_modules: bool = False
    sets: frozenset[str] = frozenset()


def process_changes(captured: Captured, code: Iterable[ast.AST], namespace: Mapping[str, Any]) -> ProcessChanges:
    """What a run, made of ``captured`` with its ``code``, may change in the session's process."""
    identifiers = {mentioned for tree in code for mentioned in _changing(tree)}
    first = captured.segments[-1].start if captured.segments else 1
    libraries: dict[str, frozenset[str]] = {}
    for effect in effects_of_cell(captured.script, first, namespace):
        setting = ast.dump(effect.node)
        if effect.target is None or not _ONLY_SPEED.match(dotted_name(effect.target) or ""):
            for library in effect.libraries:
                libraries[library] = libraries.get(library, frozenset()) | {setting}
    return ProcessChanges("environ" in identifiers, "chdir" in identifiers, "path" in identifiers, libraries)


def process_reads(tree: ast.Module, reached: Reached, namespace: Mapping[str, Any]) -> ProcessReads:
    """What a cell that reaches ``reached`` may read of the process."""
    values = [namespace[name] for name in reached.names if name in namespace]
    libraries = {library for value in values if (library := _library(value))}
    nodes = list(ast.walk(tree))
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    libraries |= {name.split(".")[0] for name in imports}
    identifiers = {mentioned for node in nodes if (mentioned := _mentioned(node))} | _names_in(reached.codes)
    sets = {ast.dump(effect.node) for effect in EffectFinder(namespace, {}).of_cell(Cell(ast.unparse(tree), "cell", 0))}
    looks_for_modules = any(name not in sys.modules for name in imports)
    return ProcessReads(frozenset(identifiers), frozenset(libraries), looks_for_modules, frozenset(sets))


def _library(value: Any) -> str | None:
    if isinstance(value, types.ModuleType):
        return value.__name__.split(".")[0]
    module = value.__module__ if isinstance(value, (type, types.FunctionType)) else type(value).__module__
    return module.split(".")[0] if isinstance(module, str) else None


def _changing(tree: ast.AST) -> Iterator[str]:
    """``environ``, ``path`` and ``chdir`` where a program changes variables, ``sys.path`` and the current folder."""
    nodes = list(ast.walk(tree))
    read = {id(node.value) for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)}
    read |= {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr in _LOOKS}
    for node in nodes:
        mentioned = _mentioned(node)
        if mentioned in ("environ", "environb", "putenv", "unsetenv") and id(node) not in read:
            yield "environ"
        elif mentioned in ("chdir", "fchdir"):
            yield "chdir"
        elif isinstance(node, ast.Attribute) and id(node) not in read and dotted_name(node) == "sys.path":
            yield "path"


_LOOKS = frozenset({"get", "copy", "items", "keys", "values"})


def _mentioned(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("run_line_magic", "run_cell_magic"):
        magic = node.args[0] if node.args else None
        name = magic.value if isinstance(magic, ast.Constant) else None
        return ("system" if name in ("sx", "bash", "sh", "script") else name) if isinstance(name, str) else None
    return identifier(node)


def _names_in(codes: Iterable[CodeType]) -> set[str]:
    return {name for code in codes for name in code.co_names}
