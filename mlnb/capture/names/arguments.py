"""Arguments: which names calls of the notebook's functions change, since these change their parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from mlnb.capture.names.effects import roots
from mlnb.capture.names.scopes import FunctionNode, changed_in_body


def changed_by_calls(trees: Iterable[ast.AST]) -> set[str]:
    """Names whose value a call in ``trees`` changes, as the syntax of functions and methods defined there shows."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions: dict[str, list[FunctionNode]] = {}
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.setdefault(node.name, []).append(node)
    changed = {node: changed_in_body(node) for same in functions.values() for node in same}
    calls = {node: list(_calls(node, functions)) for node in changed}
    growing = True
    while growing:
        growing = False
        for node, inner in calls.items():
            more = {name for call in inner for name in _changed_arguments(call, functions, changed)} - changed[node]
            changed[node] |= more
            growing = growing or bool(more)
    all_calls = [node for node in nodes if isinstance(node, ast.Call) and _called(node) in functions]
    return {name for call in all_calls for name in _changed_arguments(call, functions, changed)}


def _calls(node: ast.AST, functions: dict[str, list[FunctionNode]]) -> Iterator[ast.Call]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Call) and _called(inner) in functions)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _changed_arguments(
    call: ast.Call, functions: dict[str, list[FunctionNode]], changed: dict[FunctionNode, set[str]]
) -> Iterator[str]:
    for function in functions[_called(call)]:
        parameters = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
        if isinstance(call.func, ast.Attribute) and parameters[:1] in (["self"], ["cls"]):
            del parameters[0]
        given = [*zip(parameters, call.args, strict=False), *((item.arg, item.value) for item in call.keywords)]
        for parameter, value in given:
            if parameter in changed[function]:
                yield from roots(value)
