"""The batch systems by kind. The class of a system is imported only when that system is used.

A system is a subclass of :class:`mlnb.targets.batch.system.System`. Other distributions add theirs through the entry
point group ``mlnb.systems``: the name of the entry point is the kind, its value the class.
"""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

from mlnb.errors import UsageError
from mlnb.targets.plugins import Plugins

if TYPE_CHECKING:
    from mlnb.targets.batch.system import System

_BUILT_IN = {
    "slurm": "mlnb.targets.batch.systems.slurm.system:Slurm",
    "sge": "mlnb.targets.batch.systems.gridengine.system:GridEngine",
    "pbs": "mlnb.targets.batch.systems.pbs:Pbs",
    "moab": "mlnb.targets.batch.systems.moab:Moab",
    "lsf": "mlnb.targets.batch.systems.lsf:Lsf",
    "oar": "mlnb.targets.batch.systems.oar:Oar",
    "htcondor": "mlnb.targets.batch.systems.htcondor:HTCondor",
}
"""By kind: what ``kind:`` of a target says, and the name of dask-jobqueue's section."""

SYSTEMS = Plugins("batch system", "mlnb.systems", _BUILT_IN)

_REQUIRED = ("kind", "display_name", "submit_command", "cancel_command", "accepted")


def load_system(kind: str) -> type[System]:
    """The class of the batch system ``kind``, which is among the names of :data:`SYSTEMS`.

    Raises
    ------
    UsageError
        if the distribution that offers it can't be imported, or what it offers is no complete :class:`System`.
    """
    from mlnb.targets.batch.system import System

    loaded = SYSTEMS.load(kind)
    if not (isinstance(loaded, type) and issubclass(loaded, System)):
        raise UsageError(f"{SYSTEMS.where(kind)} is not a subclass of mlnb.targets.batch.system.System")
    missing = [name for name in _REQUIRED if not hasattr(loaded, name)]
    missing += ["table"] if loaded.jobs is System.jobs and not hasattr(loaded, "table") else []
    missing += ["job_class or directive_prefix"] if not (loaded.job_class or loaded.directive_prefix) else []
    if missing:
        raise UsageError(f"{SYSTEMS.where(kind)} does not define {', '.join(missing)}")
    return loaded


def submit_commands() -> dict[str, str]:
    """The program that submits jobs, by kind of system. Systems that can't be imported are left out."""
    commands = {}
    for kind in SYSTEMS.names():
        try:
            commands[kind] = load_system(kind).submit_command.split()[0]
        except UsageError:
            continue
    return commands


def detected() -> list[str]:
    """The kinds whose submit command is on PATH, without commands that several systems share, such as ``qsub``.

    A system of another distribution does not hide a built-in one that has the same command.
    """
    commands = submit_commands()
    uses, uses_by_built_in = Counter(commands.values()), Counter(commands[kind] for kind in _BUILT_IN)
    return [
        kind
        for kind, command in commands.items()
        if (uses_by_built_in if kind in _BUILT_IN else uses)[command] == 1 and shutil.which(command)
    ]
