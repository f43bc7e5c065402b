"""Classes: which ``class`` statement created a class, and which attributes were changed since."""

from __future__ import annotations

import ast
import enum
import types
from collections.abc import Iterator
from typing import Any

from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.capture.source.bytecode import code_key, code_keys
from mlnb.capture.source.evaluate import UNKNOWN, class_attributes, constant, equal, names_in_body
from mlnb.capture.source.introspection import class_flags, is_from_session, methods, unwrap, wrapped_functions
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
    mangled = {f"_{cls.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n in names}
    score -= len(mangled - attributes - {"_ignore_", "__slots__"})
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


def changed_attributes(source: SourceNode, cls: type) -> Iterator[tuple[str, Any]]:
    """The attributes of a class that were set after its ``class`` statement, with their values."""
    node = source.node
    assert isinstance(node, ast.ClassDef)
    keys = code_keys(source, class_flags(cls))
    written = {attribute: constant(expression) for attribute, expression in class_attributes(node)}
    in_body = {name for statement in node.body for name in names_in_body(statement)}
    decorated = {getattr(statement, "name", "") for statement in node.body if getattr(statement, "decorator_list", ())}
    is_special = issubclass(cls, (enum.Enum, tuple))
    for attribute, value in vars(cls).items():
        function = unwrap(value)
        if function is not None:
            is_own = (
                is_from_session(function) and function.__code__.co_filename != "<string>"
            )  # not dataclasses' methods
            candidates = wrapped_functions(function) if attribute in decorated else [function]
            if is_own and not any(code_key(candidate.__code__) in keys for candidate in candidates):
                yield attribute, value
        elif attribute.startswith("_") or is_special or isinstance(value, type):
            continue
        elif attribute in written:
            if written[attribute] is not UNKNOWN and not equal(written[attribute], value):
                yield attribute, value
        elif attribute not in in_body and not node.decorator_list and _is_plain(value):
            yield attribute, value


def _is_plain(value: Any) -> bool:
    """Whether a class attribute is a value that the user may have set, not a descriptor or function."""
    if callable(value) or unshippable_reason(value) is not None:
        return False
    return type(value).__module__ == "builtins" and not isinstance(value, types.MemberDescriptorType)
