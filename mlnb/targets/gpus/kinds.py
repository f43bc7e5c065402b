"""The kinds of GPUs that a site has, from its settings or its nodes, and the directives that request them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlnb.errors import UsageError
from mlnb.targets.gpus.models import Capability, GpuModel, format_gpu_memory, parse_capability, parse_gpu_name
from mlnb.units import parse_size


class Machine(Protocol):
    """A node, with what is needed here: its GPUs and features."""

    @property
    def name(self) -> str:
        """Its name in the batch system."""

    @property
    def gpus(self) -> Mapping[str, int]:
        """Type of its GPUs (empty if they have none) → count."""

    @property
    def features(self) -> tuple[str, ...]:
        """Features by which jobs can request it."""


@dataclass(frozen=True)
class RequestSyntax:
    """How jobs of a batch system request GPUs.

    Attributes
    ----------
    directive
        requests ``{count}`` GPUs of ``{type}``, where a site gives no other directive; empty if none is usual.
    counted
        whether the directive sets the count, so that it has to have ``{count}``.
    any_type
        requests ``{count}`` GPUs of any type; empty where that is no directive of its own.
    """

    directive: str = ""
    counted: bool = True
    any_type: str = ""


SLURM = RequestSyntax("--gres=gpu:{type}:{count}", any_type="--gres=gpu:{count}")


@dataclass(frozen=True)
class GpuKind:
    """One kind of GPU that a site has.

    Attributes
    ----------
    type
        as the site names it; empty for GPUs without a type.
    memory
        bytes that each has at least; ``None`` if unknown.
    capability
        compute capability; ``None`` if unknown.
    directive
        options that request ``{count}`` of them.
    """

    type: str
    memory: int | None = None
    capability: Capability | None = None
    directive: str = "--gres=gpu:{count}"

    @property
    def description(self) -> str:
        """Its type and memory, as in ``a100 with 80GB``."""
        name = self.type or "a GPU of unknown kind"
        return f"{name} with {format_gpu_memory(self.memory)}" if self.memory is not None else name

    @property
    def size(self) -> tuple[int, Capability]:
        """Sorts kinds, so that the smallest that suffices can be chosen."""
        return (2**63 if self.memory is None else self.memory, self.capability or (0, 0))

    def directive_for(self, count: int) -> str:
        """The directive that requests ``count`` of them."""
        return self.directive.replace("{count}", str(count))

    def options(self, count: int) -> tuple[str, ...]:
        """The options of that directive, split as a shell does it."""
        return tuple(shlex.split(self.directive_for(count)))

    def nodes_with(self, machines: Iterable[Machine], count: int) -> tuple[str, ...]:
        """The names of the nodes that have at least ``count`` of them."""
        return tuple(machine.name for machine in machines if self.count_on(machine) >= count > 0)

    def count_on(self, machine: Machine) -> int:
        """How many of them ``machine`` has, as far as the directive says that."""
        type_, features = "", ""
        for option in shlex.split(self.directive):
            if match := re.fullmatch(r"--(?:gres=gpu|gpus(?:-per-node)?)(?:[:=]([^:]+))?[:=]\{count\}", option):
                type_ = match[1] or ""
            elif option.startswith("--constraint="):
                features = option.partition("=")[2]
        if not _allows(features, machine.features):
            return 0
        if type_:
            return next((count for name, count in machine.gpus.items() if name.lower() == type_.lower()), 0)
        return sum(machine.gpus.values())


def _allows(constraint: str, features: Iterable[str]) -> bool:
    """Whether a node with ``features`` satisfies a constraint; anything but "and" and "or" counts as satisfied."""
    if re.search(r"[^A-Za-z0-9_.:=&|,-]", constraint):
        return True
    present = set(features)
    return not constraint or any(present.issuperset(re.split("[&,]", part)) for part in constraint.split("|"))


def configured(settings: Mapping[str, Any], syntax: RequestSyntax = SLURM) -> tuple[GpuKind, ...]:
    """The kinds under ``gpus`` of a target's settings. Memory and capability default to those of the type's name.

    Raises
    ------
    UsageError
        if an entry is wrong.
    """
    entries = settings.get("gpus") or ()
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Iterable):
        raise UsageError(f"gpus: {entries!r} of the mlnb: section is not a list of kinds like {{type: a100}}")
    return tuple(_configured(entry, syntax) for entry in entries)


def _configured(entry: object, syntax: RequestSyntax) -> GpuKind:
    def wrong(problem: str) -> UsageError:
        return UsageError(f"gpus: the entry {entry!r} of the mlnb: section {problem}")

    if not isinstance(entry, Mapping) or not entry.get("type"):
        raise wrong("is not a mapping with a type")
    kind = str(entry["type"])
    unknown = set(entry) - {"type", "memory", "capability", "directive"}
    if unknown:
        raise wrong(f"has {', '.join(sorted(map(str, unknown)))}; it may have type, memory, capability and directive")
    model = parse_gpu_name(kind) or GpuModel()
    directive = str(entry.get("directive") or syntax.directive).replace("{type}", kind)
    if not directive:
        raise wrong("needs a directive that requests {count} of them from this batch system")
    if (syntax.counted and "{count}" not in directive) or "\n" in directive:
        raise wrong("has a directive without {count}, or of several lines")
    try:
        shlex.split(directive)
        memory = model.memory if entry.get("memory") is None else parse_size(str(entry["memory"]))
        capability = model.capability if entry.get("capability") is None else parse_capability(str(entry["capability"]))
    except ValueError as error:
        raise wrong(f"is wrong: {error}") from None
    return GpuKind(kind, memory, capability, directive)


def discover(machines: Iterable[Machine]) -> tuple[GpuKind, ...]:
    """The kinds of the nodes' GPUs, from their types and from features that name a GPU model or its memory."""
    kinds = {_kind_of(type_, machine): None for machine in machines for type_ in machine.gpus}
    return tuple(kinds)


def _kind_of(type_: str, machine: Machine) -> GpuKind:
    """The kind of a node's GPUs of one type."""
    directive = f"--gres=gpu:{type_}:{{count}}" if type_ else "--gres=gpu:{count}"
    model = parse_gpu_name(type_) if type_ else None
    parsed = [(feature, parse_gpu_name(feature)) for feature in machine.features]
    features = [
        (feature, feature_model)
        for feature, feature_model in parsed
        if feature_model is not None and not feature_model.mig_slice
    ]
    # the most specific first; if the node has several types, a feature could be about any of them
    features.sort(key=lambda item: (bool(item[1].name), item[1].memory_is_exact), reverse=True)
    if model is not None and model.mig_slice:
        capability = model.capability or next(
            (feature_model.capability for _, feature_model in features if feature_model.capability), None
        )
        return GpuKind(type_, model.memory, capability, directive)
    if model is None:
        named = [(feature, feature_model) for feature, feature_model in features if feature_model.name]
        if len(machine.gpus) > 1 or not named:
            return GpuKind(type_, None, None, directive)
        feature, model = named[0]
        directive = f"--constraint={feature} {directive}"
        type_ = type_ or model.name
    if not model.memory_is_exact and len(machine.gpus) == 1:
        for feature, feature_model in features:
            if feature_model.memory_is_exact and feature_model.name in ("", model.name):
                return GpuKind(type_, feature_model.memory, model.capability, _and(directive, feature))
    return GpuKind(type_, model.memory, model.capability, directive)


def _and(directive: str, feature: str) -> str:
    """``directive`` that requests ``feature``, too."""
    if directive.startswith("--constraint="):
        constraint, _, rest = directive.partition(" ")
        return f"{constraint}&{feature} {rest}"
    return f"--constraint={feature} {directive}"
