"""Bytecode: whether a live function was compiled from a given piece of source."""

from __future__ import annotations
import __future__

import ast
import functools
from collections.abc import Iterator
from types import CodeType
from typing import Any

from mlnb.capture.source.nodes import SourceNode, first_line, parse

CodeKey = tuple[Any, ...]
"""What identifies a program, wherever its source stands: see :func:`code_key`."""


def code_key(code: CodeType) -> CodeKey:
    """A key that is equal for code objects compiled from the same source, wherever it stands."""
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
    """The code objects nested in ``code``, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from all_codes(constant)


def code_keys(source: SourceNode, flags: int = 0) -> frozenset[CodeKey]:
    """The :func:`code_key` of every code object in a top-level statement, as IPython or Python compiles it.

    IPython compiles each statement separately, Python (``%run``, ``%%time``) the text as a whole. The bytecode differs
    where the statement calls something that the same text imports.

    Parameters
    ----------
    source
        the statement, or a node inside of it.
    flags
        compiler flags: the ``from __future__`` features in effect.
    """
    node = source.enclosing[0] if source.enclosing else source.node
    return _keys(source.cell.text, *_position(node), type(node).__name__, flags)


@functools.lru_cache(maxsize=4096)
def _keys(text: str, line: int, column: int, kind: str, flags: int) -> frozenset[CodeKey]:
    tree = parse(text)
    assert tree is not None
    node = next(n for n in ast.walk(tree) if _position(n) == (line, column) and type(n).__name__ == kind)
    try:
        module = ast.Expression(node) if isinstance(node, ast.Lambda) else ast.Module([node], [])  # type: ignore[list-item]
        mode = "eval" if isinstance(node, ast.Lambda) else "exec"
        code = compile(module, "<cell>", mode, flags, dont_inherit=True)
        separate_keys = frozenset(code_key(inner) for inner in all_codes(code))
    except (SyntaxError, ValueError):
        return frozenset()  # cannot be compiled separately, as a method with super()
    first, last = first_line(node), node.end_lineno or line  # type: ignore[attr-defined]
    within = [key for at, key in _codes_with_lines(text, flags) if first <= at <= last]
    if isinstance(node, ast.Lambda) and len(within) > 1:
        return separate_keys  # several lambdas in these lines: which is which is unknown
    return separate_keys | frozenset(within)


@functools.lru_cache(maxsize=512)
def _codes_with_lines(text: str, flags: int) -> tuple[tuple[int, CodeKey], ...]:
    try:
        code = compile(text, "<cell>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return ()  # await at the top level
    return tuple((inner.co_firstlineno, code_key(inner)) for inner in all_codes(code))


def _position(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", -1), getattr(node, "col_offset", -1)


def flags_of(code: CodeType) -> int:
    """The ``from __future__`` flags that code was compiled with."""
    return code.co_flags & __future__.annotations.compiler_flag


def defines(source: SourceNode, code: CodeType) -> bool:
    """Whether ``source`` is the source of ``code``."""
    return code_key(code) in code_keys(source, flags_of(code))
