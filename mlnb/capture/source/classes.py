"""Classes: which ``class`` statement created a class, and which attributes were changed since."""

from __future__ import annotations

import abc
import ast
import enum
import types
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mlnb.capture.outputs import is_array
from mlnb.capture.ship import secrets
from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.capture.source.bytecode import CodeKey, code_key, code_keys
from mlnb.capture.source.evaluate import (
    UNKNOWN,
    changed_defaults,
    class_attributes,
    constant,
    equal,
    evaluate,
    names_in_body,
    unchanged,
)
from mlnb.capture.source.introspection import (
    class_flags,
    is_from_session,
    is_generated,
    methods,
    unwrap,
    wrapped_functions,
)
from mlnb.capture.source.nodes import SourceNode


def match_score(source: SourceNode, cls: type) -> float:
    """How well a ``class`` statement matches a class: above 0 if it may have created it."""
    node = source.node
    assert isinstance(node, ast.ClassDef)
    if node.name != cls.__name__:
        return -100.0
    keys = code_keys(source, class_flags(cls))
    score = 0.5
    names = {name for statement in node.body for name in names_in_body(statement)}
    for method in methods(cls):
        if method.__name__ in names and is_from_session(method):
            score += 1 if code_key(method.__code__) in keys else -1
    attributes = set(vars(cls)) | set(vars(cls).get("__annotations__", ())) | set(getattr(cls, "__members__", ()))
    attributes |= set(getattr(cls, "__dataclass_fields__", ())) | set(getattr(cls, "_fields", ()))
    score -= len({mangled(name, cls) for name in names} - attributes - {"_ignore_", "__slots__"})
    line = vars(cls).get("__firstlineno__")  # Python 3.13
    if isinstance(line, int) and line != source.first_line:
        score -= 0.25
    members = getattr(cls, "__members__", {})
    for attribute, expression in class_attributes(node):
        written = constant(expression)
        if written is not UNKNOWN and attribute in members and members[attribute].value != written:
            score -= 1
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    live_bases = {base.__name__ for base in cls.__mro__}
    return score - sum(0.5 for base in bases if base not in live_bases and base != "NamedTuple")


def changed_attributes(source: SourceNode, cls: type, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The attributes of a class whose ``class`` statement, run again, would give them another value; and their values.

    Plain values that only names in the body lead to are left out: those are replaced in the source.
    """
    node = source.node
    assert isinstance(node, ast.ClassDef)
    keys = code_keys(source, class_flags(cls))
    expressions = {mangled(attribute, cls): expression for attribute, expression in class_attributes(node)}
    in_body = {mangled(name, cls) for statement in node.body for name in names_in_body(statement)}
    decorated = {getattr(statement, "name", "") for statement in node.body if getattr(statement, "decorator_list", ())}
    is_special = issubclass(cls, (enum.Enum, tuple))
    is_plain_class = type(cls) in (type, abc.ABCMeta) and not node.decorator_list
    for attribute, value in vars(cls).items():
        function = unwrap(value)
        if function is not None and is_from_session(function):
            if is_generated(function) and not is_plain_class:
                continue  # the decorator or the metaclass writes it again
            candidates = wrapped_functions(function) if attribute in decorated else [function]
            is_alias = attribute not in in_body and function.__name__ != attribute
            if is_alias or not any(code_key(candidate.__code__) in keys for candidate in candidates):
                yield attribute, value
        elif is_special or attribute.startswith("_abc_") or (attribute.startswith("_") and attribute.endswith("_")):
            continue  # _x_ and __x__ belong to protocols, as _fields_ of ctypes, which can't be assigned again
        elif isinstance(value, type) and attribute in in_body and attribute not in expressions:
            for name, live in _changed_in_nested(source, attribute, value, namespace):
                yield f"{attribute}.{name}", live
        elif attribute in expressions:
            if _has_changed(attribute, expressions[attribute], value, node, namespace):
                yield attribute, value
        elif attribute not in in_body and _was_set_later(attribute, value, node, is_plain_class):
            yield attribute, value
    yield from _changed_defaults(node, cls, keys, namespace)


def _was_set_later(attribute: str, value: Any, node: ast.ClassDef, is_plain_class: bool) -> bool:
    """Whether an attribute that the class body doesn't assign was set by the session, not by the class's own making."""
    if is_plain_class:
        return _is_value(value)
    return not attribute.startswith("_") and not node.decorator_list and is_data(value)


def _changed_defaults(
    node: ast.ClassDef, cls: type, keys: Collection[CodeKey], namespace: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """The default values of a class's methods, for those methods where one has another value by now."""
    for statement in node.body:
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        attribute = mangled(statement.name, cls)
        value = vars(cls).get(attribute)
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if not isinstance(function, types.FunctionType) or code_key(function.__code__) not in keys:
            continue  # it was replaced, or a decorator has wrapped it
        path = f"{attribute}.__func__" if isinstance(value, classmethod) else attribute
        yield from ((f"{path}.{name}", live) for name, live in changed_defaults(statement.args, function, namespace))


def _changed_in_nested(
    source: SourceNode, name: str, cls: type, namespace: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """:func:`changed_attributes` of a class that the body of the class ``source`` defines as ``name``."""
    assert isinstance(source.node, ast.ClassDef)
    for statement in source.node.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name == cls.__name__:
            nested = SourceNode(source.cell, statement, (*source.enclosing, source.node))
            yield from changed_attributes(nested, cls, namespace)


def _has_changed(name: str, expression: ast.expr, live: Any, node: ast.ClassDef, namespace: Mapping[str, Any]) -> bool:
    """Whether an attribute that a class body assigns needs its live value assigned after the ``class`` statement."""
    written = constant(expression)
    if written is not UNKNOWN:
        return not equal(written, live)
    if evaluate(expression, namespace) is not UNKNOWN:
        return not is_plain(live) and _is_value(live) and not unchanged(expression, live, namespace)
    is_empty = isinstance(expression, ast.Call) and not expression.args and not expression.keywords
    if is_empty and isinstance(live, (list, dict, set)) and not live:  # as of dict(): nothing was added to it
        return False
    if secrets.looks_secret(live) or secrets.named_secret(name, live):
        return False  # the source has no credential in it: it reads one, as from the environment
    if isinstance(expression, ast.Lambda):
        return not isinstance(live, types.FunctionType)
    return not node.decorator_list and _is_value(live)  # a decorator may read the values, as dataclass does


def mangled(name: str, cls: type) -> str:
    """The name under which Python stores an attribute: of a private one (``__x``), the class's name is a part."""
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{cls.__name__.lstrip('_')}{name}" if is_private else name


def is_plain(value: Any) -> bool:
    """Whether ``value`` is immutable and plain: a number, a string, ``None``, or a tuple."""
    return isinstance(value, (int, float, str, bytes, tuple, type(None)))


def _is_value(value: Any) -> bool:
    """Whether an attribute's value can be assigned again: it is no descriptor of a library, and can be sent."""
    is_named = isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type))
    is_notebooks = type(value).__module__ == "__main__"
    return (is_named or is_notebooks or not hasattr(type(value), "__get__")) and unshippable_reason(value) is None


def is_data(value: Any) -> bool:
    """Whether an attribute's value is data that the user may have set, not a descriptor, a function or the like."""
    return is_array(value) or isinstance(value, _DATA)


_DATA = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset, deque, range, slice, type(None))
