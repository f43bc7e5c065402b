"""Container engines: how a batch job's command gets into an image. One small file an engine.

::

    contained = containers.chosen("/images/torch.sif", settings)      # settings of a target, with a container: section
    contained.differences()                                           # lines for the plan
    wrapped = contained.wrap(["-m", "mlnb.node", RUN], run, resources, env)  # command, launcher, before, after

    engine = containers.engine("podman", "torch:latest", {})          # one floor below: any command, any folders
    wrapped = engine.wrap([*engine.python(), "-V"], binds=[Bind("/data")])
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.containers.apptainer import Apptainer, Singularity
from mlnb.targets.containers.base import Bind, Engine, Settings, Wrapped
from mlnb.targets.containers.charliecloud import Charliecloud
from mlnb.targets.containers.contained import Contained
from mlnb.targets.containers.enroot import Enroot, Pyxis
from mlnb.targets.containers.images import check
from mlnb.targets.containers.oci import Docker, Podman
from mlnb.targets.containers.probe import differences, inspect

__all__ = [
    "ENGINES",
    "Bind",
    "Contained",
    "Engine",
    "Settings",
    "Wrapped",
    "chosen",
    "differences",
    "engine",
    "inspect",
]

ENGINES: Mapping[str, type[Engine]] = {
    kind.name: kind for kind in (Apptainer, Charliecloud, Docker, Enroot, Podman, Pyxis, Singularity)
}


def chosen(image: str, settings: Mapping[str, Any]) -> Contained:
    """The image with the engine that a target's settings (their ``container:`` section) say.

    Raises
    ------
    UsageError
        as :func:`engine` does.
    """
    section = settings.get("container") or {}
    if not isinstance(section, Mapping):
        raise UsageError(f"container: {section!r} of a target's settings must be a mapping")
    return Contained(engine(None, image, section))


def engine(name: str | None, image: str, settings: Mapping[str, Any] | None = None) -> Engine:
    """The engine called ``name``, else the configured one, else one that can take the image, with that image.

    Raises
    ------
    UsageError
        if there is no such engine, the image may not be used, or nothing says which engine takes it.
    """
    read = Settings.of(settings or {})
    check(image, read.images)
    chosen = name or read.engine or _guess(image)
    if chosen not in ENGINES:
        near = difflib.get_close_matches(chosen, ENGINES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"container.engine {chosen!r}: there is no such engine; there are {', '.join(ENGINES)}{hint}")
    return ENGINES[chosen](image, read)


def _guess(image: str) -> str:
    """The engine that takes an image of this form: the first that is on this machine's PATH."""
    if image.endswith((".sif", ".img")):
        able = ["apptainer", "singularity"]
    elif image.endswith(".sqsh"):
        able = ["enroot"]
    elif image.endswith((".sqfs", ".squashfs")):
        able = ["charliecloud"]
    elif image.startswith("/"):
        able = ["charliecloud", "apptainer", "singularity"] if Path(image).is_dir() else ["charliecloud"]
    elif "://" in image:
        able = ["apptainer", "singularity"]
    else:
        able = ["podman", "docker"]
    here = [one for one in able if shutil.which(ENGINES[one].program)]
    if here or len(able) == 1 or able[0] == "apptainer":
        return (here or able)[0]
    raise UsageError(
        f"--image {image}: {' or '.join(able)} could run it, and this machine has neither; "
        "the target's container.engine says which the nodes have"
    )
