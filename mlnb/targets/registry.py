"""Finds targets by name: those that the site has configured, and those that need no configuration.

A *kind* of target is a class (:class:`mlnb.targets.base.TargetKind`). mlnb has some; other distributions add theirs
by entry points of the group ``mlnb.targets`` (see docs/contributing/add-a-target.md). Each batch system is one, too
(:mod:`mlnb.targets.batch`; docs/contributing/add-a-batch-system.md). A *target* is one such class with
a name and settings. Only the class of the chosen target is imported.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets import batch
from mlnb.targets.base import Target, TargetKind
from mlnb.targets.config import settings as typed
from mlnb.targets.config.options import TargetOption
from mlnb.targets.plugins import Plugins
from mlnb.workspace import Workspace

KINDS = Plugins(
    "target kind",
    "mlnb.targets",
    {"local": "mlnb.targets.local:Local", "pool": "mlnb.targets.pool.target:Pool"},
)


def names(workspace: Workspace | None = None) -> list[str]:
    """The targets to choose from, sorted: those configured, and those that this machine has without configuration.

    Without a workspace, those of this process.
    """
    workspace = workspace or Workspace.of_process()
    others = {kind for kind in KINDS.names() if kind != "pool"}
    return sorted({*others, *batch.detected(), *_pools(workspace), *workspace.targets})


def _pools(workspace: Workspace) -> list[str]:
    """Pools that accept runs: ``pool`` where there is only one, ``pool:NAME`` of each."""
    folder = import_module("mlnb.targets.pool.folder")
    accepting = [pool.name for pool in folder.all_pools(workspace) if pool.accepts_runs]
    return [*(["pool"] if len(accepting) == 1 else []), *(f"pool:{name}" for name in accepting)]


def default_name(workspace: Workspace) -> str:
    """The target of runs that name none: ``target:`` of the configuration, else ``local``."""
    return str(workspace.settings.get("target", "local"))


def kind_name(name: str, workspace: Workspace) -> str:
    """The kind of the target called ``name``. Imports no class.

    Raises
    ------
    UsageError
        if there is no target of that name, or its configuration names an unknown kind.
    """
    configured = workspace.targets
    if name in configured:
        kind = str(configured[name].get("kind", name))
        if not _is_kind(kind) or kind == "pool":
            kinds = sorted({*KINDS.names(), *batch.SYSTEMS.names()} - {"pool"})
            raise UsageError(f"targets: {name}: unknown kind {kind}.{_nearest(kind, kinds)} Kinds: {', '.join(kinds)}.")
        return kind
    kind = name.partition(":")[0] if name.startswith("pool:") else name
    if not _is_kind(kind):
        available = names(workspace)
        nearest = _nearest(name, [*available, *batch.SYSTEMS.names()])
        raise UsageError(f"Unknown target {name}.{nearest} Available: {', '.join(available)}.")
    return kind


def _is_kind(kind: str) -> bool:
    return kind in batch.SYSTEMS or kind in KINDS


def _nearest(text: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(allowed), 1)
    return f" Did you mean {near[0]}?" if near else ""


def load_kind(kind: str) -> TargetKind:
    """The class of the kind called ``kind``, imported now.

    Raises
    ------
    UsageError
        if it can't be imported or is not a class of targets; the message names the distribution that it comes from.
    """
    if kind in batch.SYSTEMS:
        from mlnb.targets.batch.target import BatchKind

        return BatchKind(batch.load_system(kind))
    loaded: TargetKind = KINDS.load(kind)
    missing = [name for name in ("kind", "options", "settings") if not hasattr(loaded, name)]
    if missing or not callable(loaded):
        lacks = f"has no {missing[0]!r}" if missing else "can't be called"
        raise UsageError(f"{KINDS.where(kind)} is not a class of targets: it {lacks}")
    return loaded


def options_of(name: str, workspace: Workspace) -> Sequence[TargetOption]:
    """The options of the target called ``name`` beyond those of every target. Imports its class.

    Raises
    ------
    UsageError
        as :func:`target`, but for a wrong configuration of its settings.
    """
    return load_kind(kind_name(name, workspace)).options


def kinds() -> dict[str, TargetKind]:
    """All kinds by name, for help and completion. Kinds that can't be imported are left out."""
    loaded = {}
    for kind in [*batch.SYSTEMS.names(), *KINDS.names()]:
        with contextlib.suppress(UsageError):
            loaded[kind] = load_kind(kind)
    return loaded


def target(name: str | None = None, workspace: Workspace | None = None) -> Target:
    """The target called ``name``; the configured default without a name. Without a workspace, that of this process.

    Raises
    ------
    UsageError
        if there is none of that name, its class can't be imported, or its configuration is wrong.
    """
    workspace = workspace or Workspace.of_process()
    chosen = name or default_name(workspace)
    kind = kind_name(chosen, workspace)
    loaded = load_kind(kind)
    given: Mapping[str, Any] = workspace.targets.get(chosen, {})
    return loaded(chosen, typed.checked(chosen, kind, given, loaded.settings), workspace)
