"""Which images may be named: a strict grammar, and what the site allows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mlnb.errors import UsageError

_PATH = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._+=@][A-Za-z0-9._+=@-]*)+")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)"
# a reference as the OCI distribution specification has it; '#' behind the registry is enroot's way to write it
_NAME = re.compile(
    rf"(?:(?:docker|oras|library)://)?(?:[A-Za-z0-9$][A-Za-z0-9._-]*@)?(?:{_HOST}[/#])?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LONGEST = 512


def check(image: str, allowed: Sequence[str] = ()) -> str:
    """``image`` if it is the name of one, and allowed.

    Parameters
    ----------
    image
        an absolute path, or a name such as ``registry/path:tag``.
    allowed
        the site's patterns; ``*`` and ``?`` match any characters. Empty for no limit.

    Raises
    ------
    UsageError
        naming what was given, what is allowed and the nearest.
    """
    if len(image) > _LONGEST or not (_PATH.fullmatch(image) or _NAME.fullmatch(image)):
        raise UsageError(
            f"--image {image[:80]!r}: this is no image; one is an absolute path (of letters, digits and ._+=@-, "
            "without '..') or a name such as registry/name:tag"
        )
    if allowed and not any(fnmatchcase(image, pattern) for pattern in allowed):
        near = difflib.get_close_matches(image, [*allowed], 1, 0.5)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise UsageError(f"--image {image}: this target allows {', '.join(allowed)}{hint}")
    return image
