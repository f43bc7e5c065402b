"""Which paths the ranks of a plain loop share, so that rank 0 alone changes what is there."""

from __future__ import annotations

import os
import site
import sys
import tempfile
from pathlib import Path
from typing import Any

_SYSTEM = ("/dev", "/proc", "/sys", "/etc", "/usr", "/lib", "/lib64", "/run")
_CACHES = (
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "TORCH_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"),
    "MPLCONFIGDIR",
)
_HOME_CACHES = (".cache", ".config", ".triton", ".nv", ".keras", ".local")


class FollowedPaths:
    """Paths of the user's files: not those of the system, of packages, of caches, nor temporary ones.

    Libraries guard their caches themselves: their processes do not run in step.

    Parameters
    ----------
    own
        files and folders of mlnb.
    """

    def __init__(self, own: list[Path]) -> None:
        home, temporary = Path.home(), Path(tempfile.gettempdir())
        folders: list[str | Path] = [
            *_SYSTEM,
            sys.prefix,
            sys.base_prefix,
            *site.getsitepackages(),
            *(os.environ[name] for name in _CACHES if os.environ.get(name)),
            *(home / name for name in _HOME_CACHES),
            *own,
        ]
        self._left = {os.path.abspath(folder) for folder in folders}  # noqa: PTH100 - links stay as they are
        self._left -= {"/"}
        self._left_prefixes = (str(temporary / "torchinductor_"), str(temporary / "mlnb-"))

    def leave(self, folder: Any) -> None:
        """Leave what is below ``folder`` to this rank, which has made it for itself."""
        self._left.add(os.path.abspath(os.fspath(folder)))  # noqa: PTH100

    def followed(self, value: Any) -> str | None:
        """The absolute path, if it is one that all ranks share."""
        try:
            path: str = os.path.abspath(os.fsdecode(value))  # noqa: PTH100
        except (TypeError, ValueError):  # a descriptor, or what is no path
            return None
        if path.startswith(self._left_prefixes):
            return None
        part = path
        while part not in self._left:
            parent = os.path.dirname(part)  # noqa: PTH120 - ten times as fast as Path
            if parent == part:
                return path
            part = parent
        return None
