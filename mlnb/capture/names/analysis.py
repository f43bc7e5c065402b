"""Analysis: what a cell does to the session's names, and which names its functions lead to."""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

from mlnb.capture.names.closures import closure_items
from mlnb.capture.names.scopes import CellBody

PYTHON_MAGICS = frozenset({"time", "timeit", "capture", "prun", "train"})
"""Cell magics whose body is Python that runs in the session."""


@dataclass(frozen=True)
class CellNames:
    """What a cell does to the session's names.

    Attributes
    ----------
    loads
        names that it reads (or deletes) where it has not definitely assigned them itself.
    required
        those of ``loads`` that it can't have assigned before some read outside of functions.
    certain
        those of ``required`` that it reads so outside of branches, which may not be taken, too.
    possibly_assigned
        those of ``loads`` that it has possibly assigned itself before each read.
    deferred
        names that functions it defines read when they are called.
    stores
        names that it assigns at its top level, or in its functions by ``global``.
    deletes
        names in its ``del`` statements.
    mutated
        names whose value its syntax changes, as ``x[0] = 1`` or ``x.add_(y)``.
    maybe_mutated
        names whose value it may change: a method is called on it, it is an argument.
    lines
        the first line that reads a name.
    assigned_before
        name → names that it has definitely assigned whenever it reads the name.
    dotted_names
        dotted names that it reads.
    annotation_names
        names in annotations that aren't evaluated.
    star_imports
        modules of ``from module import *``.
    """

    loads: frozenset[str]
    required: frozenset[str]
    certain: frozenset[str]
    possibly_assigned: frozenset[str]
    deferred: frozenset[str]
    stores: frozenset[str]
    deletes: frozenset[str]
    mutated: frozenset[str]
    maybe_mutated: frozenset[str]
    lines: Mapping[str, int]
    assigned_before: Mapping[str, frozenset[str]]
    dotted_names: frozenset[str]
    annotation_names: frozenset[str]
    star_imports: tuple[str, ...]


def analyse(source: str | ast.Module, *, postponed: bool = False) -> CellNames:
    """Analyse what a cell does to the session's names.

    Parameters
    ----------
    source
        Python source (as IPython has transformed it, if it holds magics) or its tree.
    postponed
        whether annotations aren't evaluated, because of an earlier ``from __future__ import annotations``.

    Raises
    ------
    SyntaxError
        if the source isn't Python.
    """
    if isinstance(source, str):
        return _analyse_text(source, postponed)
    tree = inside_magic(source)
    postponed = postponed or "annotations" in future_features(tree) or sys.version_info >= (3, 14)
    body = CellBody(evaluates_annotations=not postponed)
    body.run(tree.body)
    uses = body.uses
    uses.propagate_aliases()
    return CellNames(
        loads=frozenset(body.loads),
        required=frozenset(body.required),
        certain=frozenset(body.certain),
        possibly_assigned=frozenset(body.loads) - body.unassigned,
        deferred=frozenset(body.loads_in_calls.union(*body.call_loads.values())),
        stores=frozenset(uses.stores),
        deletes=frozenset(uses.deletes),
        mutated=frozenset(uses.mutated),
        maybe_mutated=frozenset(uses.maybe_mutated | uses.mutated),
        lines=body.loads,
        assigned_before=body.assigned_before,
        dotted_names=frozenset(uses.dotted_names),
        annotation_names=frozenset(uses.annotation_names),
        star_imports=tuple(body.star_imports),
    )


@functools.lru_cache(maxsize=1024)
def _analyse_text(source: str, postponed: bool) -> CellNames:
    return analyse(ast.parse(source), postponed=postponed)


def future_features(tree: ast.Module) -> list[str]:
    """The features that a cell imports ``from __future__``."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    return [alias.name for node in imports for alias in node.names]


def magic_body(tree: ast.Module) -> str | None:
    """The body of a ``%%magic`` cell that runs it as Python in the session, as IPython has transformed it."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return None
    call = tree.body[0].value
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and len(call.args) == 3):
        return None
    magic, _, body = (argument.value if isinstance(argument, ast.Constant) else None for argument in call.args)
    is_python = call.func.attr == "run_cell_magic" and magic in PYTHON_MAGICS
    return body if is_python and isinstance(body, str) else None


def inside_magic(tree: ast.Module) -> ast.Module:
    """The tree of the code that a cell runs: of its body, if it is a ``%%time`` cell or similar."""
    body = magic_body(tree)
    if body is None:
        return tree
    try:
        return inside_magic(ast.parse(body))
    except SyntaxError:
        return tree


# ---- reach


def reach(
    names: Iterable[str], namespace: Mapping[str, Any], reads: dict[str, frozenset[str]] | None = None
) -> set[str]:
    """``names``, and the names that they lead to through the session's own functions and classes.

    Parameters
    ----------
    names
        where to start.
    namespace
        the session's names. Names that it lacks are part of the result if something reads them.
    reads
        which names each name leads to directly: filled here, and used by further calls for the same session.
    """
    reads = {} if reads is None else reads
    reached: set[str] = set()
    queue = deque(names)
    while queue:
        name = queue.popleft()
        if name in reached:
            continue
        reached.add(name)
        if name in namespace:
            if name not in reads:
                codes = _codes(namespace[name], namespace, set())
                reads[name] = frozenset(used for code in codes for used in global_reads(code))
            queue.extend(reads[name])
    return reached


@functools.lru_cache(maxsize=4096)
def global_reads(code: CodeType) -> frozenset[str]:
    """The global names that a code object and the code objects in it read."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_reads(constant)
    return frozenset(names - vars(builtins).keys() | (names & {"display"}))


def _codes(value: Any, namespace: Mapping[str, Any], visited: set[int]) -> Iterable[CodeType]:
    """The code of the session's own functions that ``value`` leads to; ``visited`` holds the ids of objects done."""
    queue = deque([value])
    while queue:
        item = queue.popleft()
        if id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, FunctionType):
            if item.__globals__ is namespace:
                yield item.__code__
            queue.extend(value for _, value in closure_items(item))
            queue.extend([*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()])
        elif isinstance(item, type):
            if item.__module__ == "__main__":
                queue.extend([*vars(item).values(), *item.__bases__])
        elif isinstance(item, (staticmethod, classmethod, MethodType)):
            queue.append(item.__func__)
        elif isinstance(item, property):
            queue.extend([item.fget, item.fset, item.fdel])
        elif isinstance(item, functools.partial):
            queue.extend([item.func, *item.args, *item.keywords.values()])
        elif type(item).__module__ == "__main__":
            queue.append(type(item))
        wrapped = inspect.getattr_static(item, "__wrapped__", None) if callable(item) else None
        if wrapped is not None:
            queue.append(wrapped)
