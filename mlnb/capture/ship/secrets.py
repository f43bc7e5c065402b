"""Secrets: recognises credentials, so that they aren't written to disk unless the user allows it.

A value counts as a credential by its format (a token of a known kind), or by its name together with a format that fits:
``tokens = 512``, ``pad_token = "<pad>"`` and ``auth = False`` are none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

MAX_LENGTH = 16384
"""Characters; longer strings are data, not credentials."""

_TOKEN = re.compile(
    r"""
      gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}       # GitHub
    | glpat-[A-Za-z0-9_-]{16,}                                        # GitLab
    | hf_[A-Za-z0-9]{16,}                                             # Hugging Face
    | sk-[A-Za-z0-9_-]{16,} | sk_(?:live|test)_[A-Za-z0-9]{16,}       # OpenAI, Anthropic, Stripe
    | (?:AKIA|ASIA)[A-Z0-9]{16}                                       # AWS
    | AIza[A-Za-z0-9_-]{30,}                                          # Google
    | xox[abeoprs]-[A-Za-z0-9-]{10,}                                  # Slack
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*         # JSON web token
    """,
    re.VERBOSE,
)
_BEARER = re.compile(r"(?:Bearer|Basic|token)\s+(?=\S*[0-9=])[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@[^\s]+", re.IGNORECASE)
_KEY_BLOCK = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")

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
_PLACEHOLDERS = frozenset({"none", "null", "true", "false", "secret", "password", "token", "changeme", "disabled"})


def looks_secret(value: object) -> bool:
    """Whether ``value`` has the format of a credential."""
    text = _as_text(value)
    if text is None or len(text) < 12:
        return False
    if _KEY_BLOCK.search(text):
        return True
    stripped = text.strip()
    return bool(_TOKEN.fullmatch(stripped) or _BEARER.fullmatch(stripped) or _URL.fullmatch(stripped))


def named_secret(name: object, value: object) -> bool:
    """Whether ``value`` may be a credential, given that it is called ``name``."""
    if not isinstance(name, str):
        return False
    text = _as_text(value)
    certainty = _name_certainty(name)
    if text is None or not certainty or not _plausible(text):
        return False
    return len(text) >= 4 if certainty > 1 else len(text) >= 8 and _looks_random(text)


def _as_text(value: object) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        if len(value) > MAX_LENGTH:
            return None
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) and len(value) <= MAX_LENGTH else None


def _name_certainty(name: str) -> int:
    """2 if a name is one of a credential, 1 if it may be, 0 if not."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    parts = [part for part in re.split(r"[^A-Za-z]+", spaced.lower()) if part]
    if not parts:
        return 0
    last = parts[-1]
    if last in _CERTAIN_WORDS or tuple(parts[-2:]) in _CERTAIN_PAIRS:
        return 2
    return 1 if last in _LIKELY_WORDS else 0


def _plausible(text: str) -> bool:
    """Whether a string can be a credential: not a placeholder in brackets, not the name of an environment variable."""
    stripped = text.strip()
    if not stripped or "\n" in stripped or re.search(r"\s", stripped):
        return False
    if re.fullmatch(r"[<\[{(].*[>\])}]|[*x•.]+|\$\w+|\$\{.*\}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", stripped):
        return False
    return stripped.lower() not in _PLACEHOLDERS


def _looks_random(text: str) -> bool:
    """Whether a string isn't a word: it has digits, or is long and not all lower case."""
    return bool(re.search(r"\d", text)) or (len(text) >= 20 and text != text.lower())


def secret_key(value: object) -> Any:
    """The key of a dictionary's first entry that is a credential, judged by its key; ``None`` without one."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(entry, (str, bytes)) and named_secret(key, entry):
                return key
    return None


def find_in_source(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Credentials written into source code: the name of each (or ``a string``) and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and looks_secret(node.value):
            yield "a string", node.lineno
        for name, value in _named_constants(node):
            if named_secret(name, value.value):
                yield name, value.lineno


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
