"""Finds the versions of Python and torch in an image, and how they differ from the session's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlnb.errors import UsageError
from mlnb.rundir import read_json, write_json
from mlnb.targets.containers.base import Engine
from mlnb.workspace import Workspace

OLDEST = (3, 10)
"""The oldest Python that the node program runs on."""

_SECONDS = 30.0
# Reads torch/version.py, since importing torch takes seconds. Old Pythons have to understand it, too.
_PROBE = """
import importlib.util, json, os, sys
versions = {"python": "%d.%d.%d" % sys.version_info[:3], "torch": None, "cuda": None}
spec = importlib.util.find_spec("torch")
if spec is not None and spec.origin:
    module = {}
    with open(os.path.join(os.path.dirname(spec.origin), "version.py")) as file:
        exec(file.read(), module)
    versions["torch"], versions["cuda"] = str(module.get("__version__")), module.get("cuda")
print("mlnb:" + json.dumps(versions))
"""

Versions = Mapping[str, str | None]
"""``python``, ``torch`` and ``cuda``, each a version or ``None`` for none."""


def inspect(engine: Engine, workspace: Workspace) -> Versions | None:
    """Find the versions in the image by running its Python.

    They are cached in the runtime folder of ``workspace`` until the image changes. Folders are not cached: packages in
    them can change unnoticed, and running their Python takes only a moment.

    Returns
    -------
    mapping or None
        ``None`` if this machine doesn't have the engine or the image, or the image has no Python.
    """
    if not engine.is_installed():
        return None
    identity = engine.identity()
    if identity is None:
        return None
    key = hashlib.sha256(f"{engine.name}\0{engine.image}\0{engine.settings.python}\0{identity}".encode()).hexdigest()
    cache = workspace.runtime_dir() / f"image-{key[:24]}.json"
    cacheable = not Path(engine.image).is_dir()
    cached = read_json(cache) if cacheable else None
    if cached is not None:
        return cached
    wrapped = engine.wrap([*engine.python(), "-c", _PROBE], name=f"mlnb-probe-{os.getpid()}")
    try:
        done = subprocess.run(
            wrapped.command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={"USER": "mlnb", **os.environ},  # ch-run does not start without USER
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("mlnb:")]  # entry points may print, too
    if done.returncode != 0 or not lines:
        return None
    versions: dict[str, str | None] = json.loads(lines[-1].removeprefix("mlnb:"))
    if cacheable:
        write_json(cache, versions)
    return versions


def differences(image: str, session: Versions, image_versions: Versions | None) -> list[str]:
    """How the image differs from the session, a line each; empty if it does not.

    Parameters
    ----------
    session
        ``python`` and ``torch`` of the session.
    image_versions
        those of the image, from :func:`inspect`.

    Raises
    ------
    UsageError
        if the image has no torch, or its Python is too old for the node program.
    """
    if image_versions is None:
        return [
            f"image {image}: not checked, since it is not on this machine; without torch the job fails at its start"
        ]
    python, torch = str(image_versions["python"]), image_versions.get("torch")
    if _minor(python) < OLDEST:
        raise UsageError(f"--image {image}: its Python is {python}; mlnb needs {OLDEST[0]}.{OLDEST[1]} or newer")
    if not torch:
        raise UsageError(f"--image {image}: its Python ({python}) has no torch; choose an image with PyTorch")
    lines = []
    if _minor(python) != _minor(str(session["python"])):
        lines.append(
            f"Python {python} in the image, {session['python']} here: code is sent as source, so it runs in both"
        )
    if session.get("torch") and _minor(torch) != _minor(str(session["torch"])):
        lines.append(f"torch {torch} in the image, {session['torch']} here: results may differ a little")
    return lines


def _minor(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, whatever follows them (``2.13.0+cpu``, ``2.4.0a0``)."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2])
