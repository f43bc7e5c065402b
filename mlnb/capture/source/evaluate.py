"""Evaluating simple expressions without running anything of the person's, and comparing with live values."""

from __future__ import annotations

import ast
import builtins
import operator
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def evaluate(node: ast.expr, namespace: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether the value that ``node`` has now can be told without calling anything, and that value."""
    try:
        return True, _Evaluator(namespace).value(node)
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError):
        return False, None


def unchanged(node: ast.expr, live: Any, namespace: Mapping[str, Any]) -> bool:
    """Whether evaluating ``node`` now gives ``live``."""
    if isinstance(node, ast.Lambda):
        return isinstance(live, types.FunctionType)
    known, now = evaluate(node, namespace)
    return known and equal(now, live)


class _Evaluator:
    _OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self._namespace[node.id] if node.id in self._namespace else vars(builtins)[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if not isinstance(owner, (types.ModuleType, type)):
                raise ValueError(node.attr)
            return getattr(owner, node.attr)
        if isinstance(node, ast.BinOp) and type(node.op) in self._OPERATORS:
            left, right = self.value(node.left), self.value(node.right)
            if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
                raise ValueError("not numbers")
            return self._OPERATORS[type(node.op)](left, right)
        return ast.literal_eval(node)


def equal(one: Any, other: Any) -> bool:
    """Whether two values can stand for each other: the same object, or equal plain values."""
    if one is other:
        return True
    plain = (int, float, complex, str, bytes, bool, tuple, list, dict, set, frozenset)
    return type(one) is type(other) and isinstance(one, plain) and repr(one) == repr(other)


def constant(node: ast.expr) -> tuple[bool, Any]:
    """Whether an expression is a literal, and its value."""
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None


def default_pairs(args: ast.arguments, function: types.FunctionType) -> Iterator[tuple[ast.expr, Any]]:
    """Default values' expressions and what they are now."""
    live = function.__defaults__ or ()
    if len(live) == len(args.defaults):
        yield from zip(args.defaults, live, strict=True)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        keywords = function.__kwdefaults__ or {}
        if default is not None and arg.arg in keywords:
            yield default, keywords[arg.arg]


def assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """The names that a class's body assigns to, and the expressions."""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value


def binds(statement: ast.stmt) -> list[str]:
    """The names that a statement of a class's body binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        return [statement.target.id]
    return []
