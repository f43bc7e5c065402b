"""Classes: which ``class`` statement made one, and what was set on it since."""

from __future__ import annotations

import ast
import enum
import types
from collections.abc import Iterator
from typing import Any

from mlnb.capture.ship.refusals import why_not
from mlnb.capture.source.evaluate import assigned, binds, constant, equal
from mlnb.capture.source.history import Found, code_key, keys
from mlnb.capture.source.introspection import class_flags, functions, is_ours, methods, underlying


def score(found: Found, cls: type) -> float:
    """How well a ``class`` statement fits a class: above 0 if it can have made it."""
    node = found.node
    assert isinstance(node, ast.ClassDef)
    if node.name != cls.__name__:
        return -100.0
    known_keys = keys(found, class_flags(cls))
    fit = 0.5
    names = {n for statement in node.body for n in binds(statement)}
    for method in methods(cls):
        if method.__name__ in names and is_ours(method):
            fit += 1 if code_key(method.__code__) in known_keys else -1
    known = set(vars(cls)) | set(vars(cls).get("__annotations__", ())) | set(getattr(cls, "__members__", ()))
    known |= set(getattr(cls, "__dataclass_fields__", ())) | set(getattr(cls, "_fields", ()))
    mangled = {f"_{cls.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n in names}
    fit -= len(mangled - known - {"_ignore_", "__slots__"})
    line = vars(cls).get("__firstlineno__")  # Python 3.13
    if isinstance(line, int) and line != found.first_line:
        fit -= 0.25
    members = getattr(cls, "__members__", {})
    for attribute, value in assigned(node):
        told, then = constant(value)
        if told and attribute in members and members[attribute].value != then:
            fit -= 1
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    actual = {base.__name__ for base in cls.__mro__}
    return fit - sum(0.5 for base in bases if base not in actual and base != "NamedTuple")


def patches(found: Found, cls: type) -> Iterator[tuple[str, Any]]:
    """What was set on a class after its ``class`` statement."""
    node = found.node
    assert isinstance(node, ast.ClassDef)
    known_keys = keys(found, class_flags(cls))
    written = {attribute: constant(value) for attribute, value in assigned(node)}
    bound = {n for statement in node.body for n in binds(statement)}
    decorated = {getattr(statement, "name", "") for statement in node.body if getattr(statement, "decorator_list", ())}
    special = issubclass(cls, (enum.Enum, tuple))
    for attribute, value in vars(cls).items():
        function = underlying(value)
        if function is not None:
            made = is_ours(function) and function.__code__.co_filename != "<string>"  # dataclasses' own methods
            written_so = functions(function) if attribute in decorated else [function]
            if made and not any(code_key(inner.__code__) in known_keys for inner in written_so):
                yield attribute, value
        elif attribute.startswith("_") or special or isinstance(value, type):
            continue
        elif attribute in written:
            known, then = written[attribute]
            if known and not equal(then, value):
                yield attribute, value
        elif attribute not in bound and not node.decorator_list and _is_plain(value):
            yield attribute, value


def _is_plain(value: Any) -> bool:
    """Whether a class's attribute is a value that a person may have set, no descriptor or function."""
    if callable(value) or why_not(value) is not None:
        return False
    return type(value).__module__ == "builtins" and not isinstance(value, types.MemberDescriptorType)
