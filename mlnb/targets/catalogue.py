"""GPUs asked for in a scientist's terms (kind, memory, compute capability), and how a site wants those asked for.

What there is comes from the target's settings, or, where they say nothing, from the cluster's nodes::

    gpus:
      - {type: a100, memory: 80GB, capability: 8.0, directive: "--gres=gpu:a100:{count}"}
      - {type: a100-mig, memory: 10GB, capability: 8.0, directive: "--gres=gpu:1g.10gb:{count}"}
      - {type: v100, memory: 32GB, capability: 7.0, directive: "--constraint=v100 --gres=gpu:{count}"}
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlnb.errors import UsageError
from mlnb.targets.cards import Capability, Card, parse_capability, recognise, say_capability, say_memory
from mlnb.task import Resources
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
class GpuAsk:
    """What is wanted: GPUs on each node, and what each has to be; ``None`` leaves it open.

    ``memory`` is in bytes.
    """

    count: int = 1
    type: str | None = None
    memory: int | None = None
    capability: Capability | None = None

    @property
    def open(self) -> bool:
        """Whether any GPU will do."""
        return self.type is None and self.memory is None and self.capability is None

    @property
    def flags(self) -> str:
        """As it is written on a ``%%train`` line."""
        return " ".join(
            [
                *([f"--gpu-type {self.type}"] if self.type is not None else []),
                *([f"--gpu-memory {say_memory(self.memory)}"] if self.memory is not None else []),
                *([f"--gpu-capability {say_capability(self.capability)}"] if self.capability is not None else []),
            ]
        )


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

    def options(self, count: int) -> tuple[str, ...]:
        """The options that ask for ``count``."""
        return tuple(shlex.split(self.directive.replace("{count}", str(count))))

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


@dataclass(frozen=True)
class Choice:
    """What will be asked for.

    Attributes
    ----------
    kinds
        those that it may turn out to be.
    directives
        options that ask for them, each as one word.
    nodes
        names of the nodes that can satisfy it; empty where no nodes are known.
    words
        lines for the plan.
    """

    kinds: tuple[Kind, ...]
    directives: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def choice_for(asked: Resources, settings: Mapping[str, Any], machines: Sequence[Machine]) -> Choice | None:
    """What to ask for; ``None`` if there are no GPUs, or any will do.

    Raises
    ------
    UsageError
        if nothing here can satisfy it, with the nearest that can; or if ``gpus:`` of the settings is wrong.
    """
    capability = None
    if asked.gpu_capability is not None:
        try:
            capability = parse_capability(asked.gpu_capability)
        except ValueError as error:
            raise UsageError(f"--gpu-capability {asked.gpu_capability}: --gpu-capability takes {error}") from None
    ask = GpuAsk(asked.gpus, asked.gpu_type, asked.gpu_memory, capability)
    if ask.open or not ask.count:
        return None
    return choose(ask, configured(settings) or discover(machines), machines)


def configured(settings: Mapping[str, Any]) -> tuple[Kind, ...]:
    """The kinds under ``gpus`` of a target's settings; what an entry leaves out is known by its type's name.

    Raises
    ------
    UsageError
        naming the entry that can't be used.
    """
    entries = settings.get("gpus") or ()
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Iterable):
        raise UsageError(f"gpus: {entries!r} of the mlnb: section is not a list of kinds like {{type: a100}}")
    return tuple(_configured(entry) for entry in entries)


def _configured(entry: object) -> Kind:
    def wrong(why: str) -> UsageError:
        return UsageError(f"gpus: the entry {entry!r} of the mlnb: section {why}")

    if not isinstance(entry, Mapping) or not entry.get("type"):
        raise wrong("is not a mapping with a type")
    kind = str(entry["type"])
    unknown = set(entry) - {"type", "memory", "capability", "directive"}
    if unknown:
        raise wrong(f"has {', '.join(sorted(map(str, unknown)))}; it may have type, memory, capability and directive")
    card = recognise(kind) or Card()
    directive = str(entry.get("directive") or f"--gres=gpu:{kind}:{{count}}")
    if "{count}" not in directive or "\n" in directive:
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


def choose(asked: GpuAsk, kinds: Sequence[Kind], machines: Sequence[Machine] = ()) -> Choice:
    """The kind to ask for: of those that will do the smallest, so that the big ones are left to who needs them.

    Where kinds differ only by the one feature that asks for them, any of them is asked for, which starts sooner.

    Raises
    ------
    UsageError
        if none will do: what was asked for, what there is, and the nearest that would do.
    """
    good = [kind for kind in kinds if not _lacks(kind, asked)]
    able = [kind for kind in good if not machines or kind.holders(machines, asked.count)]
    if not able:
        raise UsageError(_refusal(asked, good or kinds, machines))
    able.sort(key=lambda kind: kind.size)
    chosen, directives = _any_of(able, asked.count)
    holders = {name: None for kind in chosen for name in kind.holders(machines, asked.count)}
    on = f" on {_nodes(len(holders))}" if holders else ""
    words = [f"GPUs: {' or '.join(kind.words for kind in chosen)}{on}"]
    rest = dict.fromkeys(kind.type for kind in able if kind not in chosen and kind.type)
    if rest:
        words.append(f"{', '.join(rest)} would do too: left to who needs more, unless --gpu-type names it")
    return Choice(tuple(chosen), directives, tuple(holders), tuple(words))


def _any_of(able: Sequence[Kind], count: int) -> tuple[list[Kind], tuple[str, ...]]:
    """The smallest kind, with those that one constraint can ask for together with it."""
    first = able[0].options(count)
    feature = _one_feature(first)
    if feature is None:
        return [able[0]], first
    others = [option for option in first if not option.startswith("--constraint=")]
    chosen, features = [], []
    for kind in able:
        options = kind.options(count)
        other = _one_feature(options)
        if other is not None and [each for each in options if not each.startswith("--constraint=")] == others:
            chosen.append(kind)
            features += [other] if other not in features else []
    return chosen, (f"--constraint={'|'.join(features)}", *others)


def _one_feature(options: Iterable[str]) -> str | None:
    """The feature that a constraint of just one names."""
    found = [option.partition("=")[2] for option in options if option.startswith("--constraint=")]
    return found[0] if len(found) == 1 and re.fullmatch(r"[A-Za-z0-9_.:=-]+", found[0]) else None


def _allows(constraint: str, features: Iterable[str]) -> bool:
    """Whether a node with ``features`` satisfies a constraint; what is more than "and" and "or" is let pass."""
    if re.search(r"[^A-Za-z0-9_.:=&|,-]", constraint):
        return True
    there = set(features)
    return not constraint or any(there.issuperset(re.split("[&,]", all_of)) for all_of in constraint.split("|"))


def _lacks(kind: Kind, asked: GpuAsk) -> list[str]:
    """Which asks ``kind`` does not meet."""
    return [
        *(["type"] if asked.type is not None and not _is(kind, asked.type) else []),
        *(["memory"] if asked.memory is not None and not _has(kind, asked.memory) else []),
        *(["capability"] if asked.capability is not None and (kind.capability or (0, 0)) < asked.capability else []),
    ]


def _has(kind: Kind, memory: int) -> bool:
    # 24GiB means what is sold with 24GB
    return kind.memory is not None and (memory <= kind.memory or memory * 10**9 == kind.memory * 2**30)


def _is(kind: Kind, name: str) -> bool:
    if name.lower() == kind.type.lower():
        return True
    wanted, card = recognise(name), recognise(kind.type)
    if wanted is None or card is None or (wanted.name, wanted.part) != (card.name, card.part):
        return False
    # a100-80gb is not any a100
    return not wanted.sure or wanted.memory == kind.memory


def _refusal(asked: GpuAsk, kinds: Sequence[Kind], machines: Sequence[Machine]) -> str:
    """One line: what was asked for, what there is, and the nearest that would do."""
    if not kinds:
        return f"{asked.flags}: no GPUs are known here; a site says what it has under gpus: of the target"
    nearest = min(kinds, key=lambda kind: _distance(kind, asked, machines))
    lacks = _lacks(nearest, asked)
    count = min(asked.count, _most(nearest, machines)) if machines else asked.count
    fewer = count < asked.count
    flags = f"{f'--gpus {asked.count} ' if fewer else ''}{asked.flags}"
    if count == 0:
        return f"{flags}: no node here has {nearest.words}"
    for lack, value in (("memory", nearest.memory), ("capability", nearest.capability)):
        if lack in lacks and value is None:
            return f"{flags}: the {lack} of {nearest.words} is not known; a site says it under gpus: of the target"
    instead = GpuAsk(
        count,
        nearest.type if "type" in lacks else asked.type,
        nearest.memory if "memory" in lacks else asked.memory,
        nearest.capability if "capability" in lacks else asked.capability,
    )
    change = GpuAsk(
        count,
        instead.type if "type" in lacks else None,
        instead.memory if "memory" in lacks else None,
        instead.capability if "capability" in lacks else None,
    )
    able = {name for kind in kinds if not _lacks(kind, instead) for name in kind.holders(machines, count)}
    changes = " ".join(filter(None, [f"--gpus {count}" if fewer else "", change.flags]))
    there = f"nodes have {count} × {nearest.words} at most" if fewer and not lacks else _there(nearest, asked, kinds)
    return f"{flags}: {there}; {changes} would fit{f' {_nodes(len(able))}' if machines else ''}"


def _distance(kind: Kind, asked: GpuAsk, machines: Sequence[Machine]) -> tuple[object, ...]:
    """How far ``kind`` is from what was asked for; of equals the biggest is the nearest."""
    lacks = _lacks(kind, asked)
    major, minor = kind.capability or (0, 0)
    bigger = (kind.memory is None, -(kind.memory or 0), -major, -minor)
    if lacks == ["capability"]:
        bigger = (kind.capability is None, -major, -minor, -(kind.memory or 0))
    return "type" in lacks, len(lacks), -min(asked.count, _most(kind, machines)), *bigger


def _most(kind: Kind, machines: Sequence[Machine]) -> int:
    """The most of ``kind`` that one node has."""
    return max((kind.on(machine) for machine in machines), default=0)


def _there(nearest: Kind, asked: GpuAsk, kinds: Sequence[Kind]) -> str:
    """What a site has, as far as it matters to what was asked for."""
    lacks = _lacks(nearest, asked)
    if "type" in lacks:
        return f"there are {', '.join(dict.fromkeys(kind.words for kind in kinds))}"
    of = f" {asked.type}" if asked.type is not None else ""
    said = (
        f" and capability {say_capability(nearest.capability)}" if nearest.capability and "capability" in lacks else ""
    )
    which = "largest" if lacks == ["memory"] and asked.capability is None else "nearest"
    which = "newest" if lacks == ["capability"] and asked.memory is None else which
    words = f"has {say_memory(nearest.memory)}" if of and nearest.memory is not None else f"is {nearest.words}"
    return f"the {which}{of} here {words}{said}"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
