"""GPUs asked for in a scientist's terms (kind, memory, compute capability), and how a site wants those asked for.

What there is comes from the target's settings, or, where they say nothing, from the cluster's nodes (see
:mod:`mlnb.targets.gpus.kinds`)::

    gpus:
      - {type: a100, memory: 80GB, capability: 8.0, directive: "--gres=gpu:a100:{count}"}
      - {type: a100-mig, memory: 10GB, capability: 8.0, directive: "--gres=gpu:1g.10gb:{count}"}
      - {type: v100, memory: 32GB, capability: 7.0, directive: "--constraint=v100 --gres=gpu:{count}"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlnb.errors import UsageError
from mlnb.targets.gpus.kinds import SLURM, Kind, Machine, RequestSyntax, configured, discover
from mlnb.targets.gpus.models import Capability, parse_capability, recognise, say_capability, say_memory
from mlnb.task import Resources

M = TypeVar("M", bound=Machine)


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
        if self.open:
            return f"--gpus {self.count}"
        return " ".join(
            [
                *([f"--gpu-type {self.type}"] if self.type is not None else []),
                *([f"--gpu-memory {say_memory(self.memory)}"] if self.memory is not None else []),
                *([f"--gpu-capability {say_capability(self.capability)}"] if self.capability is not None else []),
            ]
        )


@dataclass(frozen=True)
class Choice:
    """What will be asked for.

    Attributes
    ----------
    kinds
        those that it may turn out to be.
    directives
        SLURM's options that ask for them, each as one word.
    nodes
        names of the nodes that can satisfy it; empty where no nodes are known.
    words
        lines for the plan.
    """

    kinds: tuple[Kind, ...]
    directives: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def choice_for(
    asked: Resources, settings: Mapping[str, Any], machines: Sequence[Machine], syntax: RequestSyntax = SLURM
) -> Choice | None:
    """What to ask for; ``None`` if no GPUs are asked for, or any will do and the site does not say how to ask.

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
    ask, kinds = GpuAsk(asked.gpus or 0, asked.gpu_type, asked.gpu_memory, capability), configured(settings, syntax)
    if not ask.count or (ask.open and not kinds):
        return None
    return choose(ask, kinds or discover(machines), machines)


def able(asked: Resources, settings: Mapping[str, Any], machines: Mapping[str, M]) -> dict[str, M]:
    """Those that have the GPUs asked for; all, where any will do or none will."""
    try:
        choice = choice_for(asked, settings, tuple(machines.values()))
    except UsageError:
        choice = None
    return {name: machine for name, machine in machines.items() if choice is None or name in choice.nodes}


def most(settings: Mapping[str, Any], machines: Sequence[Machine], syntax: RequestSyntax = SLURM) -> int:
    """How many GPUs one of ``machines`` has at most; where none is known, whether the site has said that it has any."""
    kinds = configured(settings, syntax)
    if not machines:
        return min(1, len(kinds))
    if kinds:
        return max(_most(kind, machines) for kind in kinds)
    return max(sum(machine.gpus.values()) for machine in machines)


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
    flags = asked.flags if asked.open or not fewer else f"--gpus {asked.count} {asked.flags}"
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
    changes = " ".join([*([f"--gpus {count}"] if fewer else []), *([] if change.open else [change.flags])])
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
