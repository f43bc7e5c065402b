"""The formats of credentials, by which they are recognised under any name, and within longer strings."""

from __future__ import annotations

import re

_KINDS = r"""
      gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}           # GitHub
    | gl(?:pat|dt|ft|rt|soat|cbt|ptt|agent)-[A-Za-z0-9_-]{16,}            # GitLab
    | hf_[A-Za-z0-9]{16,}                                                 # Hugging Face
    | sk-[A-Za-z0-9_-]{0,24}[A-Za-z0-9]{16,}[A-Za-z0-9_-]*                # OpenAI, Anthropic
    | [sr]k_(?:live|test)_[A-Za-z0-9]{16,}                                # Stripe
    | (?:AKIA|ASIA)[A-Z0-9]{16}                                           # AWS
    | AIza[A-Za-z0-9_-]{30,} | ya29\.[A-Za-z0-9_-]{20,}                   # Google
    | xox[abeoprs]-[A-Za-z0-9-]{10,} | xapp-\d-[A-Za-z0-9-]{10,}          # Slack
    | npm_[A-Za-z0-9]{30,} | pypi-AgE[A-Za-z0-9_-]{30,}                   # npm, PyPI
    | dapi[0-9a-f]{32}(?:-\d)?                                            # Databricks
    | dop_v1_[0-9a-f]{40,} | dckr_pat_[A-Za-z0-9_-]{20,}                  # DigitalOcean, Docker
    | hv[sbr]\.[A-Za-z0-9_-]{20,}                                         # Vault
    | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}                          # SendGrid
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*             # JSON web token
"""
_TOKEN = re.compile(_KINDS, re.VERBOSE)
_TOKEN_WITHIN = re.compile(rf"(?<![A-Za-z0-9_+-])(?<![^/]/)(?:{_KINDS})(?![A-Za-z0-9])", re.VERBOSE)
_PREFIXED = re.compile(
    r"(?<![\w./+=-])[A-Za-z][A-Za-z0-9]{1,11}(?:[_-][A-Za-z0-9]{1,8}){0,2}[_-]([A-Za-z0-9]{20,})(?![\w./-])"
)
"""The form of newer kinds of tokens: what it is, and then random characters."""

_SHORTEST = 16
"""Characters of the shortest token. Texts have few words that are so long."""

_HEADER = re.compile(r"(?:Bearer|Basic|token)\s+(?=\S*[0-9=])[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
_HEADER_WITHIN = re.compile(
    r"\bBearer\s+([A-Za-z0-9._~+/=-]{16,})|\bAuthorization\W{1,4}\w+\s+([A-Za-z0-9._~+/=-]{16,})"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^\s/:@?#]*:([^\s/@]+)@[^\s@]", re.IGNORECASE)
_KEY_BLOCK = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")
_PLACEHOLDER = re.compile(r"[<\[{(].*[>\])}]|[*x•.]+|%\(?\w+\)?s?|\$\w+|\$\{.*\}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_PLACEHOLDERS = frozenset(
    {"none", "null", "true", "false", "secret", "password", "passwd", "pass", "pwd", "token", "changeme", "disabled"}
)
_CLASS = re.compile(r"[a-z]+|[A-Z]+|[0-9]+")


def is_token(text: str) -> bool:
    """Whether a string, taken as a whole, is a credential of a known kind."""
    stripped = text.strip()
    return bool(_TOKEN.fullmatch(stripped) or _HEADER.fullmatch(stripped)) or holds_token(text)


def holds_token(text: str) -> bool:
    """Whether a credential of a known kind is somewhere in a string."""
    if "-----BEGIN" in text and _KEY_BLOCK.search(text):
        return True
    if "://" in text and any(is_plausible(match[1]) for match in _URL.finditer(text)):
        return True
    if any(len(word) >= _SHORTEST and _is_token_in(word) for word in text.split()):
        return True
    if "Bearer" in text or "Authorization" in text:
        return any(
            has_digit(found := match[1] or match[2]) or is_random(found) for match in _HEADER_WITHIN.finditer(text)
        )
    return False


def _is_token_in(word: str) -> bool:
    has_form = any(has_digit(match[0]) or is_random(match[0]) for match in _TOKEN_WITHIN.finditer(word))
    return has_form or any(_is_mixed(match[1]) for match in _PREFIXED.finditer(word))


def _is_mixed(text: str) -> bool:
    """Whether a string is random, and no digest: those have letters of one case only."""
    return is_random(text) and has_digit(text) and text.lower() != text != text.upper()


def is_plausible(text: str) -> bool:
    """Whether a string can be a credential: no placeholder, and not the name of an environment variable."""
    stripped = text.strip()
    if not stripped or re.search(r"\s", stripped) or _PLACEHOLDER.fullmatch(stripped):
        return False
    return stripped.lower() not in _PLACEHOLDERS


def has_digit(text: str) -> bool:
    """Whether a string has a digit, which words do not have."""
    return bool(re.search(r"\d", text))


def is_random(text: str) -> bool:
    """Whether a string looks like random letters and digits: the kind of character changes all the time."""
    kinds = _CLASS.findall(text)
    return len(kinds) > 0.45 * len(text)
