"""Targets by name: those that the site configured, and those that this machine has by itself."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.base import Target
from mlnb.targets.config.paths import section, targets
from mlnb.targets.config.settings import known

_BATCH = {
    "slurm": "sbatch",
    "sge": "qsub",
    "pbs": "qsub",
    "moab": "msub",
    "lsf": "bsub",
    "oar": "oarsub",
    "htcondor": "condor_submit",
}
"""Kinds of batch systems and the command whose presence says that this machine submits to one."""


_CLASSES = {"local": "mlnb.targets.local:Local", "pool": "mlnb.targets.pool.target:Pool"}


def names() -> list[str]:
    """The targets there are to choose from: those configured, and what this machine has without a word."""
    there = {kind for kind, program in _BATCH.items() if program != "qsub" and shutil.which(program)}
    return sorted({"local", *there, *_pools(), *targets()})


def _pools() -> list[str]:
    """Pools that take runs: ``pool`` where there is one, ``pool:NAME`` of each."""
    folder = import_module("mlnb.targets.pool.folder")
    there = [pool.name for pool in folder.known() if pool.takes]
    return [*(["pool"] if len(there) == 1 else []), *(f"pool:{name}" for name in there)]


def target(name: str | None = None) -> Target:
    """The target called ``name``; the configured default without a name.

    Raises
    ------
    UsageError
        if there is none of that name, or its configuration is wrong.
    """
    chosen = name or str(section().get("target", "local"))
    configured = targets()
    if chosen not in configured and chosen.partition(":")[0] == "pool":
        return _made(chosen, "pool", {})
    if chosen not in configured and chosen != "local" and chosen not in _BATCH:
        there = names()
        near = difflib.get_close_matches(chosen, [*there, *_BATCH], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--on {chosen}: there is no such target; there are {', '.join(there)}{hint}")
    settings = configured.get(chosen, {})
    kind = str(settings.get("kind", chosen))
    if kind not in ("local", *_BATCH):
        raise UsageError(f"target {chosen}: kind {kind!r} is not known; known are {', '.join(['local', *_BATCH])}")
    return _made(chosen, kind, known(chosen, kind, settings))


def _made(name: str, kind: str, settings: Mapping[str, Any]) -> Target:
    """Imported only when chosen: a batch system brings what the others don't need."""
    if kind in _BATCH:
        from mlnb.targets.batch import SYSTEMS
        from mlnb.targets.batch.target import JobQueue

        return JobQueue(name, SYSTEMS[kind](settings))
    module, _, attribute = _CLASSES[kind].partition(":")
    made: Target = getattr(import_module(module), attribute)(name, settings)
    return made
