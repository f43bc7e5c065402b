"""Where runs go: one file a kind of target, over one small protocol (:mod:`mlnb.targets.base`)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.base import Offer, Placement, Status, Target
from mlnb.targets.config import section

__all__ = ["Offer", "Placement", "Status", "Target", "names", "target"]


def _local(name: str, settings: Mapping[str, Any]) -> Target:
    from mlnb.targets.local import Local

    return Local(name, settings)


_KINDS: dict[str, Callable[[str, Mapping[str, Any]], Target]] = {"local": _local}


def names() -> list[str]:
    """The targets there are to choose from."""
    return sorted({"local", *section().get("targets", {})})


def target(name: str | None = None) -> Target:
    """The target called ``name``; the configured default without a name.

    Raises
    ------
    UsageError
        if there is none of that name, or its configuration is wrong.
    """
    chosen = name or str(section().get("target", "local"))
    known = names()
    if chosen not in known:
        near = difflib.get_close_matches(chosen, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--on {chosen}: there is no such target; there are {', '.join(known)}{hint}")
    settings = section().get("targets", {}).get(chosen, {}) or {}
    kind = settings.get("kind", "local" if chosen == "local" else None)
    if kind not in _KINDS:
        raise UsageError(f"target {chosen}: kind {kind!r} is not known; known are {', '.join(sorted(_KINDS))}")
    return _KINDS[kind](chosen, settings)
