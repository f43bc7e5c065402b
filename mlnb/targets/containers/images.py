"""Names of images: a strict grammar, and the images that a site allows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mlnb.errors import UsageError

_PATH = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._+=@][A-Za-z0-9._+=@-]*)+")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)"
# a reference as the OCI distribution specification has it; enroot writes '#' after the registry
_NAME = re.compile(
    rf"(?:(?:docker|oras|library)://)?(?:[A-Za-z0-9$][A-Za-z0-9._-]*@)?(?:{_HOST}[/#])?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LONGEST = 512
_FILES = (".sif", ".img", ".sqsh", ".sqfs", ".squashfs")


def absolute(image: str) -> str:
    """A path of an image file or folder on this machine as an absolute one; other names unchanged.

    Image files are known by the end of their name, folders by the ``./``, ``../`` or ``~/`` in front.
    """
    if image.startswith("/") or "://" in image:
        return image
    is_path = image.startswith(("./", "../", "~/")) or image.endswith(_FILES)
    return str(Path(image).expanduser().resolve()) if is_path else image


def check(image: str, allowed: Sequence[str] = ()) -> str:
    """Check the name of an image; returns it.

    Parameters
    ----------
    image
        an absolute path, or a name such as ``registry/path:tag``.
    allowed
        the site's patterns; ``*`` and ``?`` match any characters. Empty for no limit.

    Raises
    ------
    UsageError
        if it is not the name of an image, or is not allowed; the message has the allowed ones and the nearest.
    """
    if len(image) > _LONGEST or not (_PATH.fullmatch(image) or _NAME.fullmatch(image)):
        raise UsageError(
            f"--image {image[:80]!r}: not the name of an image. Use an absolute path (letters, digits and ._+=@-, "
            "without '..') or a name such as registry/name:tag"
        )
    if allowed and not any(fnmatchcase(image, pattern) for pattern in allowed):
        near = difflib.get_close_matches(image, [*allowed], 1, 0.5)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise UsageError(f"--image {image}: this target allows {', '.join(allowed)}{hint}")
    return image
