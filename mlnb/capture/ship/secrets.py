"""Credentials: what looks like one stays in the session, unless a person says otherwise.

A value is judged by its own look (a token of a known kind), or by a name that says what it is together with a look
that doesn't contradict it: ``tokens = 512``, ``pad_token = "<pad>"`` and ``auth = False`` are none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

LONGEST = 16384
"""Longer texts are data, not credentials."""

_LOOKS = re.compile(
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

_SURE = frozenset({"secret", "password", "passwd", "passphrase", "pwd", "apikey", "credential", "credentials"})
_PAIRS = frozenset(
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
_LIKELY = frozenset({"token", "auth", "authorization", "accesskey", "privatekey", "authtoken", "accesstoken", "pat"})
_PLACEHOLDERS = frozenset({"none", "null", "true", "false", "secret", "password", "token", "changeme", "disabled"})


def looks_secret(value: object) -> bool:
    """Whether ``value`` is a credential by its own look."""
    text = _text(value)
    if text is None or len(text) < 12:
        return False
    if _KEY_BLOCK.search(text):
        return True
    stripped = text.strip()
    return bool(_LOOKS.fullmatch(stripped) or _BEARER.fullmatch(stripped) or _URL.fullmatch(stripped))


def named_secret(name: object, value: object) -> bool:
    """Whether ``value`` looks like a credential given that it is called ``name``."""
    if not isinstance(name, str):
        return False
    text = _text(value)
    certainty = _name_says(name)
    if text is None or not certainty or not _plausible(text):
        return False
    return len(text) >= 4 if certainty > 1 else len(text) >= 8 and _mixed(text)


def _text(value: object) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        if len(value) > LONGEST:
            return None
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) and len(value) <= LONGEST else None


def _name_says(name: str) -> int:
    """2 if the name says that it's a credential, 1 if it may, 0 if not."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    words = [word for word in re.split(r"[^A-Za-z]+", spaced.lower()) if word]
    if not words:
        return 0
    tail = words[-1]
    if tail in _SURE or tuple(words[-2:]) in _PAIRS:
        return 2
    return 1 if tail in _LIKELY else 0


def _plausible(text: str) -> bool:
    """Whether a text can be a credential at all: no word in brackets, no name of an environment variable."""
    stripped = text.strip()
    if not stripped or "\n" in stripped or re.search(r"\s", stripped):
        return False
    if re.fullmatch(r"[<\[{(].*[>\])}]|[*x•.]+|\$\w+|\$\{.*\}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", stripped):
        return False
    return stripped.lower() not in _PLACEHOLDERS


def _mixed(text: str) -> bool:
    """Whether a text isn't a word: it has digits, or is long and of mixed case."""
    return bool(re.search(r"\d", text)) or (len(text) >= 20 and text != text.lower())


def in_mapping(value: object) -> Any:
    """The key of an entry that is a credential by its name; ``None`` if there is none."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(entry, (str, bytes)) and named_secret(key, entry):
                return key
    return None


def in_source(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Credentials written into source: what they are called (or what they look like) and their line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and looks_secret(node.value):
            yield "a text", node.lineno
        for name, value in _named_constants(node):
            if named_secret(name, value.value):
                yield name, value.lineno


def _named_constants(node: ast.AST) -> Iterator[tuple[str, ast.Constant]]:
    """Constants that source gives a name to, by the node that does."""
    for name, value in _named_values(node):
        if name and isinstance(value, ast.Constant):
            yield name, value


def _named_values(node: ast.AST) -> Iterator[tuple[str | None, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield _target(target), node.value
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        yield _target(node.target), node.value
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


def _target(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value if isinstance(node.slice.value, str) else None
    return None
