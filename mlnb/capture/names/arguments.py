"""Arguments: which names calls of the notebook's functions change, since these change their parameters."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlnb.capture.names.effects import roots
from mlnb.capture.names.scopes import FunctionNode, changed_in_body


@dataclass(frozen=True, eq=False)
class _Function:
    name: str
    parameters: tuple[str, ...]
    changed: frozenset[str]
    calls: tuple[ast.Call, ...]


def changed_by_calls(trees: Iterable[ast.AST]) -> set[str]:
    """Names whose value a call in ``trees`` changes, as the syntax of functions and methods defined there shows."""
    summaries = [_summary(tree) for tree in trees]
    by_name: dict[str, list[_Function]] = {}
    for functions, _ in summaries:
        for function in functions:
            by_name.setdefault(function.name, []).append(function)
    changed = {function: set(function.changed) for same in by_name.values() for function in same}
    growing = True
    while growing:
        growing = False
        for function, names in changed.items():
            more = {name for call in function.calls for name in _changed_arguments(call, by_name, changed)} - names
            names |= more
            growing = growing or bool(more)
    return {name for _, calls in summaries for call in calls for name in _changed_arguments(call, by_name, changed)}


@functools.lru_cache(maxsize=2048)
def _summary(tree: ast.AST) -> tuple[tuple[_Function, ...], tuple[ast.Call, ...]]:
    """The functions that ``tree`` defines, and its calls with arguments that are names."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return tuple(_function(node) for node in functions), tuple(_calls(tree))


def _function(node: FunctionNode) -> _Function:
    parameters = tuple(argument.arg for argument in [*node.args.posonlyargs, *node.args.args])
    return _Function(node.name, parameters, frozenset(changed_in_body(node)), tuple(_calls(node)))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (node.args or node.keywords):
            yield node


def _changed_arguments(
    call: ast.Call, by_name: Mapping[str, list[_Function]], changed: Mapping[_Function, set[str]]
) -> Iterator[str]:
    is_method = isinstance(call.func, ast.Attribute)
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    for function in by_name.get(called, ()):
        if not changed[function]:
            continue
        parameters = function.parameters
        if is_method and parameters[:1] in (("self",), ("cls",)):
            parameters = parameters[1:]
        given = [*zip(parameters, call.args, strict=False), *((item.arg, item.value) for item in call.keywords)]
        for parameter, value in given:
            if parameter in changed[function]:
                yield from roots(value)
