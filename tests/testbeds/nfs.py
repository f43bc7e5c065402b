"""A stand-in for what an NFS client remembers: names that were not there, until it opens their folder.

It is what nfs(5) says of attribute caching and of close-to-open consistency, and no more. Linux remembers for a minute
at most (``acdirmax``); here it is for ever, so that nothing is right merely because it was late.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def hide(patch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Have ``paths`` be remembered as not there by this process."""
    hidden = {os.fspath(path): os.fspath(path.parent) for path in paths}

    def blind(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path) in hidden:
                raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
            return real(path, *arguments, **more)

        return call

    opened = os.open

    def open_(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_DIRECTORY:
            for shown in [one for one, folder in hidden.items() if folder == os.fspath(path)]:
                del hidden[shown]
        return blind(opened)(path, flags, *arguments, **more)

    patch.setattr(os, "open", open_)
    patch.setattr(os, "stat", blind(os.stat))
    for name in ("read_bytes", "read_text", "open", "stat", "exists"):
        patch.setattr(Path, name, blind(getattr(Path, name)) if name != "exists" else _exists)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True
