"""The kinds of GPUs that a site has, as its settings name them or its nodes show them, and what asks for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlnb.errors import UsageError
from mlnb.targets.gpus.models import Capability, Card, parse_capability, recognise, say_memory
from mlnb.units import parse_size


class Machine(Protocol):
    """What is to be known of a node."""

    @property
    def name(self) -> str:
        """As the batch system calls it."""

    @property
    def gpus(self) -> Mapping[str, int]:
        """Type of its GPUs (empty where there is none) → count."""

    @property
    def features(self) -> tuple[str, ...]:
        """Words by which it can be asked for."""


@dataclass(frozen=True)
class RequestSyntax:
    """How a batch system is asked for GPUs.

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
class Kind:
    """One kind of GPU that a site has.

    Attributes
    ----------
    type
        as the site names it; empty for GPUs of which nothing is known.
    memory
        bytes that each has at least; ``None`` where nobody says.
    directive
        options that ask for ``{count}`` of them.
    """

    type: str
    memory: int | None = None
    capability: Capability | None = None
    directive: str = "--gres=gpu:{count}"

    @property
    def words(self) -> str:
        """It and its memory, for a person."""
        name = self.type or "a GPU of unknown kind"
        return f"{name} with {say_memory(self.memory)}" if self.memory is not None else name

    @property
    def size(self) -> tuple[int, Capability]:
        """How big it is, to choose the smallest that will do."""
        return (2**63 if self.memory is None else self.memory, self.capability or (0, 0))

    def line(self, count: int) -> str:
        """The directive that asks for ``count``."""
        return self.directive.replace("{count}", str(count))

    def options(self, count: int) -> tuple[str, ...]:
        """The options of that line, as SLURM's commands read it."""
        return tuple(shlex.split(self.line(count)))

    def holders(self, machines: Iterable[Machine], count: int) -> tuple[str, ...]:
        """The nodes that have ``count`` of them."""
        return tuple(each.name for each in machines if self.on(each) >= count > 0)

    def on(self, machine: Machine) -> int:
        """How many of them ``machine`` has, as far as the directive tells."""
        kind, features = "", ""
        for option in shlex.split(self.directive):
            if match := re.fullmatch(r"--(?:gres=gpu|gpus(?:-per-node)?)(?:[:=]([^:]+))?[:=]\{count\}", option):
                kind = match[1] or ""
            elif option.startswith("--constraint="):
                features = option.partition("=")[2]
        if not _allows(features, machine.features):
            return 0
        if kind:
            return next((count for name, count in machine.gpus.items() if name.lower() == kind.lower()), 0)
        return sum(machine.gpus.values())


def _allows(constraint: str, features: Iterable[str]) -> bool:
    """Whether a node with ``features`` satisfies a constraint; what is more than "and" and "or" is let pass."""
    if re.search(r"[^A-Za-z0-9_.:=&|,-]", constraint):
        return True
    there = set(features)
    return not constraint or any(there.issuperset(re.split("[&,]", all_of)) for all_of in constraint.split("|"))


def configured(settings: Mapping[str, Any], syntax: RequestSyntax = SLURM) -> tuple[Kind, ...]:
    """The kinds under ``gpus`` of a target's settings; what an entry leaves out is known by its type's name.

    Raises
    ------
    UsageError
        naming the entry that can't be used.
    """
    entries = settings.get("gpus") or ()
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Iterable):
        raise UsageError(f"gpus: {entries!r} of the mlnb: section is not a list of kinds like {{type: a100}}")
    return tuple(_configured(entry, syntax) for entry in entries)


def _configured(entry: object, syntax: RequestSyntax) -> Kind:
    def wrong(why: str) -> UsageError:
        return UsageError(f"gpus: the entry {entry!r} of the mlnb: section {why}")

    if not isinstance(entry, Mapping) or not entry.get("type"):
        raise wrong("is not a mapping with a type")
    kind = str(entry["type"])
    unknown = set(entry) - {"type", "memory", "capability", "directive"}
    if unknown:
        raise wrong(f"has {', '.join(sorted(map(str, unknown)))}; it may have type, memory, capability and directive")
    card = recognise(kind) or Card()
    directive = str(entry.get("directive") or syntax.directive).replace("{type}", kind)
    if not directive:
        raise wrong("needs a directive: what asks this batch system for {count} of them")
    if (syntax.counted and "{count}" not in directive) or "\n" in directive:
        raise wrong("has a directive without {count}, or of several lines")
    try:
        shlex.split(directive)
        memory = card.memory if entry.get("memory") is None else parse_size(str(entry["memory"]))
        capability = card.capability if entry.get("capability") is None else parse_capability(str(entry["capability"]))
    except ValueError as error:
        raise wrong(f"does not read: {error}") from None
    return Kind(kind, memory, capability, directive)


def discover(machines: Iterable[Machine]) -> tuple[Kind, ...]:
    """The kinds that nodes have, from the types of their GPUs and from features that name a GPU or its memory."""
    found: dict[Kind, None] = {}
    for machine in machines:
        for kind in machine.gpus:
            found.setdefault(_found(kind, machine))
    return tuple(found)


def _found(kind: str, machine: Machine) -> Kind:
    gres = f"--gres=gpu:{kind}:{{count}}" if kind else "--gres=gpu:{count}"
    card = recognise(kind) if kind else None
    told = [(feature, said) for feature in machine.features if (said := recognise(feature)) and not said.part]
    # the feature that says most; those of a node with several types could be of any of them
    told.sort(key=lambda each: (bool(each[1].name), each[1].sure), reverse=True)
    if card is not None and card.part:
        capability = card.capability or next((said.capability for _, said in told if said.capability), None)
        return Kind(kind, card.memory, capability, gres)
    if card is None:
        named = [(feature, said) for feature, said in told if said.name]
        if len(machine.gpus) > 1 or not named:
            return Kind(kind, None, None, gres)
        feature, card = named[0]
        gres = f"--constraint={feature} {gres}"
        kind = kind or card.name
    if not card.sure and len(machine.gpus) == 1:
        for feature, said in told:
            if said.sure and said.name in ("", card.name):
                return Kind(kind, said.memory, card.capability, _and(gres, feature))
    return Kind(kind, card.memory, card.capability, gres)


def _and(directive: str, feature: str) -> str:
    """``directive`` that asks for ``feature`` too."""
    if directive.startswith("--constraint="):
        constraint, _, rest = directive.partition(" ")
        return f"{constraint}&{feature} {rest}"
    return f"--constraint={feature} {directive}"
