"""Names: what a cell reads before binding it, what it binds, what it changes, and what that reaches."""

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

from mlnb.capture.names.definite_assignment import Flow

PYTHON_MAGICS = frozenset({"time", "timeit", "capture", "prun", "train"})
"""Cell magics whose body is Python that runs in the session."""


@dataclass(frozen=True)
class CellNames:
    """What a cell does to the session's names.

    Attributes
    ----------
    loads
        names that it reads (or deletes) where it may not have bound them itself.
    stores
        names that it binds at its top level, or in its functions by ``global``.
    deletes
        names in its ``del`` statements.
    mutates
        names whose value it changes by its syntax, as ``x[0] = 1`` or ``x.add_(y)``.
    touches
        names whose value it may change: a method is called on it, it is an argument.
    optional
        those of ``loads`` that it has perhaps bound itself before each read.
    certain
        those of ``loads`` that nothing in it can have bound before the first read outside of functions.
    lines
        the first line that reads a name.
    given
        name → names that it has surely bound whenever it reads the name.
    chains
        dotted names that it reads.
    deferred
        names that functions it defines read when they are called.
    hints
        names in annotations that aren't evaluated.
    stars
        modules of ``from module import *``.
    """

    loads: frozenset[str]
    stores: frozenset[str]
    deletes: frozenset[str]
    mutates: frozenset[str]
    touches: frozenset[str]
    optional: frozenset[str]
    certain: frozenset[str]
    lines: Mapping[str, int]
    given: Mapping[str, frozenset[str]]
    chains: frozenset[str]
    deferred: frozenset[str]
    hints: frozenset[str]
    stars: tuple[str, ...]


def analyse(source: str | ast.Module, *, postponed: bool = False) -> CellNames:
    """Find out what a cell does to names.

    Parameters
    ----------
    source
        Python source (as IPython has transformed it, if it holds magics) or its tree.
    postponed
        whether annotations aren't evaluated, as after an earlier ``from __future__ import annotations``.

    Raises
    ------
    SyntaxError
        if the source isn't Python.
    """
    if isinstance(source, str):
        return _analyse_text(source, postponed)
    tree = inside_magic(source)
    lazily = postponed or "annotations" in future_features(tree) or sys.version_info >= (3, 14)
    flow = Flow(annotations=not lazily)
    flow.run(tree.body)
    flow.facts.spread()
    deferred = {name for reads in flow.pending.values() for name in reads} | flow.soft
    return CellNames(
        loads=frozenset(flow.loads),
        stores=frozenset(flow.facts.stores),
        deletes=frozenset(flow.facts.deletes),
        mutates=frozenset(flow.facts.changes),
        touches=frozenset(flow.facts.touches | flow.facts.changes),
        optional=frozenset(flow.loads) - flow.needed,
        certain=frozenset(flow.certain),
        lines=flow.loads,
        given=flow.given,
        chains=frozenset(flow.facts.chains),
        deferred=frozenset(deferred),
        hints=frozenset(flow.facts.hints),
        stars=tuple(flow.stars),
    )


@functools.lru_cache(maxsize=1024)
def _analyse_text(source: str, postponed: bool) -> CellNames:
    return analyse(ast.parse(source), postponed=postponed)


def future_features(tree: ast.Module) -> list[str]:
    """What a cell imports ``from __future__``."""
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
    known = call.func.attr == "run_cell_magic" and magic in PYTHON_MAGICS
    return body if known and isinstance(body, str) else None


def inside_magic(tree: ast.Module) -> ast.Module:
    """The tree of what a cell really runs: of the body, if it is a ``%%time`` cell or its like."""
    body = magic_body(tree)
    if body is None:
        return tree
    try:
        return inside_magic(ast.parse(body))
    except SyntaxError:
        return tree


# ---- reach


def reach(names: Iterable[str], namespace: Mapping[str, Any]) -> set[str]:
    """The names that ``names`` lead to through the session's own functions and classes.

    Parameters
    ----------
    names
        to start from; they are part of the result.
    namespace
        the session's names. Names that it lacks are part of the result if something reads them.
    """
    found: set[str] = set()
    queue = deque(names)
    seen: set[int] = set()
    while queue:
        name = queue.popleft()
        if name in found:
            continue
        found.add(name)
        if name in namespace:
            for code in _codes(namespace[name], namespace, seen):
                queue.extend(global_reads(code))
    return found


@functools.lru_cache(maxsize=4096)
def global_reads(code: CodeType) -> frozenset[str]:
    """The global names that a code object and those inside of it read."""
    found = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= global_reads(constant)
    return frozenset(found - vars(builtins).keys() | (found & {"display"}))


def _codes(value: Any, namespace: Mapping[str, Any], seen: set[int]) -> Iterable[CodeType]:
    """The code of the session's own functions that can be reached from ``value``."""
    queue = deque([value])
    while queue:
        item = queue.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, FunctionType):
            if item.__globals__ is namespace:
                yield item.__code__
            queue.extend(_cells(item))
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


def _cells(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found
