"""What a cell reads, found before it runs: by its syntax, and by the live objects that its names lead to."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mlnb.capture.names.analysis import analyse, inside_magic
from mlnb.notebook.waiting import lookups
from mlnb.notebook.waiting.files import absolute, shell_bodies, used_paths
from mlnb.notebook.waiting.graph import Reached, reach
from mlnb.notebook.waiting.process import ProcessReads, process_reads


@dataclass(frozen=True)
class CellReads:
    """What a cell reads.

    Attributes
    ----------
    reached
        names and objects.
    undefined
        names that it reads and the session lacks.
    everything
        whether it may read anything there is.
    paths
        absolute paths that it names.
    commands
        lines of shell scripts.
    process
        what it reads of the process.
    """

    reached: Reached
    undefined: frozenset[str]
    everything: bool
    paths: frozenset[str]
    commands: tuple[str, ...]
    process: ProcessReads


def reads_of(tree: ast.Module, namespace: Mapping[str, Any]) -> CellReads:
    """What a cell, as IPython has transformed it, reads of the session ``namespace`` and of files."""
    inner = inside_magic(tree)
    looked_up = lookups.in_tree(tree)
    if inner is not tree:
        looked_up = looked_up.joined(lookups.in_tree(inner))
    loads = analyse(tree).loads
    reached = reach({*loads, *looked_up.names}, namespace)
    for code in list(reached.codes):
        looked_up = looked_up.joined(lookups.in_code(code))
    more = looked_up.names | (lookups.queried(reached.strings) if looked_up.queries else set())
    if more - reached.names:
        reached = reach(reached.names | more, namespace)
    names = analyse(inner)
    # a function of the cell may read what the cell assigns after it
    undefined = (
        names.loads - ((names.deferred & names.stores) - names.required) - namespace.keys() - vars(builtins).keys()
    )
    paths = frozenset(_paths(inner, loads, reached, namespace))
    process = process_reads(tree if inner is tree else ast.Module([*tree.body, *inner.body], []), reached, namespace)
    return CellReads(reached, undefined, looked_up.everything, paths, tuple(shell_bodies(tree)), process)


def _paths(tree: ast.AST, loads: frozenset[str], reached: Reached, namespace: Mapping[str, Any]) -> set[str]:
    folder = str(Path.cwd())
    paths = used_paths(tree, folder, namespace)
    values = [namespace.get(name) for name in loads]
    texts = [str(value) for value in values if isinstance(value, PurePath) or type(value) is str]
    texts += [text for code in reached.codes for text in lookups.code_strings(code)]
    return paths | {absolute(text, folder) for text in texts if _is_like_path(text)}


def _is_like_path(text: str) -> bool:
    return 2 < len(text) < 500 and not any(character.isspace() for character in text) and ("/" in text or "." in text)
