"""Where things are and how a site wants them: an ``mlnb:`` section in Dask's configuration path.

::

    mlnb:
      runs: /scratch/{user}/mlnb     # where run directories go
      target: local                  # where runs go that name no target
      targets:
        local:
          kind: local
          warm: true                 # keep a parent with torch imported
          max-time: 2h               # limits: refused at the magic, with the limit named
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.errors import UsageError
from mlnb.rundir import storage_errors

_SOCKET = 107 - len(".4194304")
"""Characters of a socket's path (unix(7)), to which a process may add its pid until it is whole."""


def section() -> Mapping[str, Any]:
    """The ``mlnb:`` section of Dask's configuration; empty where there is none."""
    import dask.config

    found = dask.config.get("mlnb", {})
    if not isinstance(found, Mapping):
        raise UsageError(f"mlnb: in Dask's configuration is {found!r}; it must be a mapping (see docs/design.md)")
    return found


def targets() -> Mapping[str, Mapping[str, Any]]:
    """The settings of the targets that are configured, by name.

    Raises
    ------
    UsageError
        if they are no such thing.
    """
    found = section().get("targets") or {}
    if not isinstance(found, Mapping):
        raise UsageError(f"targets: {found!r} of the mlnb: section in Dask's configuration must be a mapping")
    for name, settings in found.items():
        if not isinstance(settings or {}, Mapping):
            raise UsageError(
                f"targets: {name}: {settings!r} of the mlnb: section in Dask's configuration must be a mapping"
            )
    return {str(name): settings or {} for name, settings in found.items()}


def runs_root() -> Path:
    """The folder of all run directories: ``MLNB_RUNS``, else the configured one, else a folder for data."""
    chosen = os.environ.get("MLNB_RUNS") or section().get("runs")
    if chosen:
        return Path(str(chosen).replace("{user}", getpass.getuser())).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlnb" / "runs"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "mlnb" / "runs"


def runtime_dir() -> Path:
    """The user's folder for sockets and locks here: ``MLNB_RUNTIME``, else in /tmp. Mode 0700, made if missing.

    Runs and pools outlive the login, so it is not ``XDG_RUNTIME_DIR``, which ends with it. All sessions share the
    machine's cores and GPUs, so it is not in ``TMPDIR``, which may be each session's own.

    Raises
    ------
    UsageError
        if what is there belongs to someone else, or is no folder.
    StorageError
        if it can't be made.
    """
    chosen = os.environ.get("MLNB_RUNTIME")
    folder = Path(chosen).absolute() if chosen else Path(f"/tmp/mlnb-{os.getuid()}")  # noqa: S108
    with storage_errors(folder, "MLNB_RUNTIME"), contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    info = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise UsageError(f"{folder} is not a folder of yours: set MLNB_RUNTIME to one that is")
    if info.st_mode & 0o077:
        raise UsageError(f"Others can read {folder}. Run: chmod 700 {shlex.quote(str(folder))}")
    return folder


def socket_path(name: str) -> Path:
    """Where a Unix socket of this user's is.

    Raises
    ------
    UsageError
        if the path is longer than such paths may be.
    """
    path = runtime_dir() / name
    length = len(os.fsencode(path))
    if length > _SOCKET:
        raise UsageError(
            f"MLNB_RUNTIME={path.parent}: a socket's path would have {length} characters and may have {_SOCKET}: "
            f"choose a folder whose path is {length - _SOCKET} shorter"
        )
    return path
