"""Evaluation of simple expressions without running the user's code, to compare source with live values."""

from __future__ import annotations

import ast
import builtins
import operator
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlnb.capture.ship import secrets
from mlnb.capture.ship.refusals import unshippable_reason

UNKNOWN: Any = type("Unknown", (), {"__doc__": "Stands for a value that can't be determined."})()


def evaluate(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    """The value that ``node`` has now; :data:`UNKNOWN` if that would take a call of anything."""
    try:
        return _Evaluator(namespace).value(node)
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError):
        return UNKNOWN


def unchanged(node: ast.expr, live: Any, namespace: Mapping[str, Any]) -> bool:
    """Whether ``node``, evaluated now, has the value ``live``."""
    if isinstance(node, ast.Lambda):
        return isinstance(live, types.FunctionType)
    return equal(evaluate(node, namespace), live)


class _Evaluator:
    """Evaluates names, attributes of modules and classes, arithmetic and literals; raises for anything else."""

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


def equal(left: Any, right: Any) -> bool:
    """Whether two values are interchangeable: the same object, or equal plain values."""
    if left is right:
        return True
    plain = (int, float, complex, str, bytes, bool, tuple, list, dict, set, frozenset)
    return type(left) is type(right) and isinstance(left, plain) and repr(left) == repr(right)


def constant(node: ast.expr) -> Any:
    """The value of a literal; :data:`UNKNOWN` for any other expression."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def default_pairs(args: ast.arguments, function: types.FunctionType) -> Iterator[tuple[ast.expr, Any]]:
    """The expressions of a function's default values, each with the live value."""
    live = function.__defaults__ or ()
    if len(live) == len(args.defaults):
        yield from zip(args.defaults, live, strict=True)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        keywords = function.__kwdefaults__ or {}
        if default is not None and arg.arg in keywords:
            yield default, keywords[arg.arg]


def changed_defaults(
    args: ast.arguments, function: types.FunctionType, namespace: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """``__defaults__`` and ``__kwdefaults__`` of a function, if an expression of a default has another value by now.

    None if a default can't be sent, or is a credential that its expression reads, as from the environment.
    """
    pairs = list(default_pairs(args, function))
    if all(unchanged(expression, live, namespace) for expression, live in pairs):
        return
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    values = dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False))
    values.update(function.__kwdefaults__ or {})
    for name, live in values.items():
        if unshippable_reason(live) is not None or secrets.looks_secret(live) or secrets.named_secret(name, live):
            return
    if function.__defaults__:
        yield "__defaults__", function.__defaults__
    if function.__kwdefaults__:
        yield "__kwdefaults__", function.__kwdefaults__


def class_attributes(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """The names that a class body assigns, each with the expression."""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value


def names_in_body(statement: ast.stmt) -> list[str]:
    """The names that a statement of a class body assigns."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        return [statement.target.id]
    return []
