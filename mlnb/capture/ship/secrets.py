"""Secrets: recognises credentials, so that they aren't written to disk unless the user allows it.

A value counts as a credential by its format (:mod:`mlnb.capture.ship.tokens`), or by its name together with a format
that fits: ``tokens = 512``, ``pad_token = "<pad>"`` and ``auth = False`` are none. Names within strings count, too, as
in ``host=db password=…``.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any

from mlnb.capture.ship import tokens

MAX_LENGTH = 16384
"""Characters; longer strings are data, not credentials."""

_CERTAIN_WORDS = frozenset({"secret", "password", "passwd", "passphrase", "pwd", "apikey", "credential", "credentials"})
_CERTAIN_PAIRS = frozenset(
    {
        ("api", "key"),
        ("access", "key"),
        ("private", "key"),
        ("secret", "key"),
        ("account", "key"),
        ("auth", "key"),
        ("signing", "key"),
        ("encryption", "key"),
        ("subscription", "key"),
    }
)
_LIKELY_WORDS = frozenset(
    {"token", "auth", "authorization", "accesskey", "privatekey", "authtoken", "accesstoken", "pat"}
)
_OTHER_KEYS = frozenset(
    {"cache", "column", "data", "dict", "file", "foreign", "hash", "index", "object", "partition", "primary"}
    | {"public", "row", "s3", "sort", "state"}
)
"""Words that with ``key`` make the name of something that is no credential."""

_ASSIGNMENT = re.compile(
    r"""(?<![\w$-]) ([A-Za-z][\w-]{2,40}) (["']?) \s? ([:=]) \s? (["']?) ([^\s"';,&|()\[\]{}<>]{6,200})""", re.VERBOSE
)
"""``name=value``, or ``"name": "value"``: in a connection string, a command, a query, JSON."""

_NAME_BEFORE = re.compile(r"(?:pass\w*|pwd|secret|key|token|auth\w*|credentials?|pat)[\"']? ?[:=]", re.IGNORECASE)
"""What a string has in it if such a name is one of a credential."""

_HEX_KEY = re.compile(r"(?=.*\d)(?=.*[a-f])(?:[0-9a-f]{32,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_MIXED_KEY = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_TEXT_LENGTH = 4096
"""Characters; in longer strings, names are those of a text or a program, not of a credential."""

_LOGIN = re.compile(r"(?:\w*_)?(?:log_?in|sign_?in|auth|authenticate|authorize)", re.IGNORECASE)
"""The name of a function that is called with credentials."""


def looks_secret(value: object) -> bool:
    """Whether ``value`` has the format of a credential, or has one in it."""
    text = _as_text(value)
    return text is not None and len(text) >= 12 and (tokens.is_token(text) or _holds_named_secret(text))


def named_secret(name: object, value: object) -> bool:
    """Whether ``value`` may be a credential, given that it is called ``name``."""
    if not isinstance(name, str):
        return False
    text = _as_text(value)
    certainty = _name_certainty(name)
    if text is None or not certainty or not tokens.is_plausible(text):
        return False
    if certainty == _KEY:
        return _is_long_key(text)
    return len(text) >= 4 if certainty == _CERTAIN else len(text) >= 8 and _looks_random(text)


def _holds_named_secret(text: str) -> bool:
    """Whether a string assigns a credential to a name, as in ``host=db password=…``."""
    if len(text) > _TEXT_LENGTH or not any(sign in text for sign in ("=", '":', "':")):
        return False
    if not _NAME_BEFORE.search(text):
        return False
    return any(
        (certainty := _name_certainty(name))
        and (sign == "=" or name_quote or value_quote)  # otherwise it is prose
        and (tokens.has_digit(value) if certainty == _CERTAIN else _is_long_key(value))
        and tokens.is_plausible(value)
        for name, name_quote, sign, value_quote, value in _ASSIGNMENT.findall(text)
    )


def _as_text(value: object) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        if len(value) > MAX_LENGTH:
            return None
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) and len(value) <= MAX_LENGTH else None


_CERTAIN, _LIKELY, _KEY = "certain", "likely", "key"


def _name_certainty(name: str) -> str:
    """How surely a name is one of a credential; empty if it is none. A ``…_key`` may be one if its value is long."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    parts = [part for part in re.split(r"[^A-Za-z]+", spaced.lower()) if part]
    if not parts:
        return ""
    last = parts[-1]
    if last in _CERTAIN_WORDS or tuple(parts[-2:]) in _CERTAIN_PAIRS:
        return _CERTAIN
    if last == "key" and len(parts) > 1 and parts[-2] not in _OTHER_KEYS:
        return _KEY
    return _LIKELY if last in _LIKELY_WORDS else ""


def _looks_random(text: str) -> bool:
    """Whether a string isn't a word: it has digits, or is long and not all lower case."""
    return tokens.has_digit(text) or (len(text) >= 20 and text != text.lower())


def _is_long_key(text: str) -> bool:
    """Whether a string may be a key without any mark, as of 40 hexadecimal digits: no path, no name, no number."""
    if _HEX_KEY.fullmatch(text):
        return True
    return bool(_MIXED_KEY.fullmatch(text)) and tokens.has_digit(text) and tokens.is_random(text)


def secret_key(value: object) -> Any:
    """The key of a dictionary's first entry that is a credential, judged by its key; ``None`` without one."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(entry, (str, bytes)) and named_secret(key, entry):
                return key
    return None


@functools.lru_cache(maxsize=4096)
def find_in_source(tree: ast.AST) -> tuple[tuple[str, int], ...]:
    """Credentials written into source code: the name of each (or ``a string``) and its line.

    Cached, since equal cells share their trees.
    """
    return tuple(_in_source(tree))


def _in_source(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and looks_secret(node.value):
            yield "a string", node.lineno
        for name, value in _named_constants(node):
            if named_secret(name, value.value):
                yield name, value.lineno
        for name, value in _login_constants(node):
            if _is_long_key(value.value) and not looks_secret(value.value):
                yield name, value.lineno


def _login_constants(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The strings with which a function is called that logs in."""
    if isinstance(node, ast.Call):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _LOGIN.fullmatch(function):
            arguments = [*((function, value) for value in node.args), *((key.arg, key.value) for key in node.keywords)]
            for name, value in arguments:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield name or function, value


def _named_constants(node: ast.AST) -> Iterator[tuple[str, ast.Constant]]:
    """The constants to which a node of source code gives a name."""
    for name, value in _named_values(node):
        if name and isinstance(value, ast.Constant):
            yield name, value


def _named_values(node: ast.AST) -> Iterator[tuple[str | None, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield _target_name(target), node.value
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        yield _target_name(node.target), node.value
    elif isinstance(node, ast.keyword):
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None, value
    elif isinstance(node, ast.arguments):
        positional = [*node.posonlyargs, *node.args]
        for arg, default in zip(positional[::-1], node.defaults[::-1], strict=False):
            yield arg.arg, default
        for arg, default_ in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            yield arg.arg, default_


def _target_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value if isinstance(node.slice.value, str) else None
    return None
