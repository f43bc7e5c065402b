"""Keeps settings of whoever runs the tests out of them. ``conftest.py`` calls it before any test is imported."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

OF_THE_TESTS = frozenset(
    {
        *("MLNB_GRIDENGINE", "MLNB_IMAGE_CACHE", "MLNB_IMAGE_RELEASE", "MLNB_OPERATOR", "MLNB_OPERATOR_KEY"),
        *("MLNB_SLURM", "MLNB_WHEEL"),
    }
)
"""Variables that choose what is tested, and which mlnb does not read."""


def isolate() -> None:
    """Take away what configures Dask and mlnb, for this process and those that it starts.

    Dask reads ``DASK_*``, ``~/.config/dask`` and ``/etc/dask``. Only ``HOME`` can take the second away from processes
    that tests start; caches stay where they are, since they configure nothing and are costly to fill.
    """
    for name in [name for name in os.environ if name.startswith(("DASK_", "MLNB_")) and name not in OF_THE_TESTS]:
        del os.environ[name]
    os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    home = Path(tempfile.mkdtemp(prefix="mlnb-home-"))
    atexit.register(_remove, home, os.getpid())
    os.environ["HOME"] = str(home)
    os.environ["DASK_ROOT_CONFIG"] = str(home / "etc" / "dask")
    if "dask" in sys.modules:  # a plugin of pytest has imported it
        import dask.config

        dask.config.refresh(paths=[], env={})
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: processes of tests inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a process forked from this one
        shutil.rmtree(folder, ignore_errors=True)
