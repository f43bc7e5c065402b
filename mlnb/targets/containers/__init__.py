"""Container engines, which run the command of a run inside an image. One small file per engine.

::

    contained = containers.for_target("/images/torch.sif", settings, workspace)  # settings of a target
    contained.differences()                                           # lines for the plan
    wrapped = contained.wrap(["-m", "mlnb.node", RUN], run, resources, env)  # command, launcher, before, after

    engine = containers.engine("podman", "torch:latest", {})          # directly: any command, any folders
    wrapped = engine.wrap([*engine.python(), "-V"], binds=[Bind("/data")])

Other distributions add engines by entry points of the group ``mlnb.container_engines`` (see
docs/contributing/add-a-container-engine.md).
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
from collections.abc import Mapping
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.containers.base import Bind, Engine, Settings, Wrapped
from mlnb.targets.containers.contained import Contained
from mlnb.targets.containers.images import check
from mlnb.targets.containers.probe import differences, inspect
from mlnb.targets.plugins import Plugins
from mlnb.workspace import Workspace

__all__ = [
    "ENGINES",
    "Bind",
    "Contained",
    "Engine",
    "Settings",
    "Wrapped",
    "differences",
    "engine",
    "for_target",
    "inspect",
    "load_engine",
]

_PREFERENCE = ("charliecloud", "apptainer", "singularity", "enroot", "podman", "docker", "pyxis")
"""mlnb's own engines, in the order in which they are tried if no setting names one."""

ENGINES = Plugins(
    "container engine",
    "mlnb.container_engines",
    {
        "apptainer": "mlnb.targets.containers.apptainer:Apptainer",
        "charliecloud": "mlnb.targets.containers.charliecloud:Charliecloud",
        "docker": "mlnb.targets.containers.oci:Docker",
        "enroot": "mlnb.targets.containers.enroot:Enroot",
        "podman": "mlnb.targets.containers.oci:Podman",
        "pyxis": "mlnb.targets.containers.enroot:Pyxis",
        "singularity": "mlnb.targets.containers.apptainer:Singularity",
    },
)


def for_target(image: str, settings: Mapping[str, Any], workspace: Workspace) -> Contained:
    """The image, with the engine that the ``container:`` section of a target's settings names.

    Raises
    ------
    UsageError
        as :func:`engine` does.
    """
    section = settings.get("container") or {}
    if not isinstance(section, Mapping):
        raise UsageError(f"container: {section!r} of a target's settings must be a mapping")
    return Contained(engine(None, image, section), workspace)


def engine(name: str | None, image: str, settings: Mapping[str, Any] | None = None) -> Engine:
    """An engine with an image: the one called ``name``, else the configured one, else the first that fits.

    Raises
    ------
    UsageError
        if there is no such engine, the image may not be used, or no installed engine accepts it.
    """
    read = Settings.of(settings or {})
    check(image, read.images)
    chosen = name or read.engine or _first_fit(image)
    if chosen not in ENGINES:
        names = ENGINES.names()
        near = difflib.get_close_matches(chosen, names, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"container.engine {chosen!r}: unknown engine.{hint} Available: {', '.join(names)}.")
    return load_engine(chosen)(image, read)


def load_engine(name: str) -> type[Engine]:
    """The class of the engine called ``name``, imported now.

    Raises
    ------
    UsageError
        if it can't be imported or is not an engine; the message names the distribution that it comes from.
    """
    loaded = ENGINES.load(name)
    if not (isinstance(loaded, type) and issubclass(loaded, Engine)):
        raise UsageError(f"{ENGINES.where(name)} is not a subclass of mlnb.targets.containers.Engine")
    return loaded


def _first_fit(image: str) -> str:
    """The first engine that accepts the image and is installed here; if only one accepts it, that one.

    Raises
    ------
    UsageError
        if several accept it and none is installed here: it isn't known which of them the nodes have.
    """
    engines = {name: load_engine(name) for name in _PREFERENCE}
    for name in ENGINES.names():
        with contextlib.suppress(
            UsageError
        ):  # an engine of another distribution that can't be imported, and was not requested
            engines.setdefault(name, load_engine(name))
    fitting = [name for name, engine in engines.items() if engine.accepts(image)]
    installed = [name for name in fitting if shutil.which(engines[name].program)]
    if installed or len(fitting) == 1 or fitting[:1] == ["apptainer"]:  # singularity is apptainer's former name
        return (installed or fitting)[0]
    raise UsageError(
        f"--image {image}: needs {' or '.join(fitting)}, and this machine has none of them; "
        "if the nodes have one, name it in the target's container.engine"
    )
