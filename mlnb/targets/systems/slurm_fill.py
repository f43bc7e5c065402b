"""What a run asks of SLURM, filled in from the partition's limits and its nodes; what can never start is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets import catalogue
from mlnb.targets.systems.base import Filled
from mlnb.targets.systems.slurm_nodes import Node, Partition
from mlnb.task import Resources
from mlnb.units import say_size, say_time

_DAY = 86400


def default(partitions: Mapping[str, Partition]) -> Partition | None:
    """The partition that a job goes to that names none."""
    return next((part for part in partitions.values() if part.default), None)


def fill(
    asked: Resources,
    name: str | None,
    nodes: Mapping[str, Node],
    partitions: Mapping[str, Partition],
    settings: Mapping[str, Any],
) -> Filled:
    """Complete resources for a job in partition ``name`` (the default one without).

    Raises
    ------
    UsageError
        for what no node or no limit of the partition allows, with the nearest that would do.
    """
    part = _partition(name, partitions)
    there = [nodes[one] for one in part.nodes if one in nodes]
    gpus: tuple[str, ...] = ()
    words = [f"partition {part.name}"]
    choice = catalogue.choice_for(asked, settings, there)
    if choice is not None:
        gpus, words = choice.directives, [*words, *choice.words]
        there = [node for node in there if node.name in choice.nodes]
    time, said = _time(asked, part)
    cpus = asked.cpus or _cores(asked, there)
    memory = asked.memory or _memory(asked, cpus, part, there)
    filled = replace(asked, cpus=cpus, memory=memory, time=time)
    fit = _fitting(filled, there)
    if part.max_nodes is not None and asked.nodes > part.max_nodes:
        raise UsageError(f"--nodes {asked.nodes}: partition {part.name} allows {part.max_nodes} a job")
    if len(fit) < asked.nodes:
        raise UsageError(_misfit(filled, part, there, fit))
    usable = [node.name for node in fit if node.usable]
    down = f", {len(fit) - len(usable)} of them not available now" if len(usable) < len(fit) else ""
    words += [f"{len(fit)} of its {len(part.nodes)} nodes can take it{down}", *said]
    return Filled(filled, part.name, gpus, tuple(words))


def _partition(name: str | None, partitions: Mapping[str, Partition]) -> Partition:
    if name is None:
        found = default(partitions)
        if found is None:
            raise UsageError(f"--partition is needed: SLURM has no default here; there are {', '.join(partitions)}")
    elif name not in partitions:
        near = difflib.get_close_matches(name, partitions, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        there = ", ".join(partitions) or "none that you may use"
        raise UsageError(f"--partition {name}: there is no such partition; there are {there}{hint}")
    else:
        found = partitions[name]
    if found.state != "UP":
        raise UsageError(f"--partition {found.name}: SLURM says that it is {found.state.lower()} and takes no jobs")
    return found


def _time(asked: Resources, part: Partition) -> tuple[int, list[str]]:
    if asked.time is not None:
        if part.max_time is not None and asked.time > part.max_time:
            raise UsageError(
                f"--time {say_time(asked.time)}: partition {part.name} allows {say_time(part.max_time)} at most"
            )
        return asked.time, []
    if part.default_time is not None:
        return part.default_time, [f"{say_time(part.default_time)} is partition {part.name}'s default"]
    most = min(part.max_time or _DAY, _DAY)
    return most, [f"{say_time(most)} is what partition {part.name} allows: a shorter --time may start sooner"]


def _share(asked: Resources, nodes: Sequence[Node]) -> Node | None:
    """The smallest node that has the GPUs: a share of it fits on the others too."""
    able = [node for node in nodes if node.gpu_count >= asked.gpus]
    return min(able, key=lambda node: (node.cpus, node.memory), default=None)


def _cores(asked: Resources, nodes: Sequence[Node]) -> int:
    """Cores a rank: its GPUs' share of a node; without GPUs up to four."""
    node = _share(asked, nodes)
    if node is None:
        return 1
    if asked.gpus and node.gpu_count:
        return max(1, node.cpus * asked.gpus // (node.gpu_count * asked.ranks))
    return max(1, min(4, node.cpus // asked.ranks))


def _memory(asked: Resources, cpus: int, part: Partition, nodes: Sequence[Node]) -> int:
    """Bytes a node: the site's own default, else what is the cores' or the GPUs' share."""
    if part.memory_per_node is not None:
        return part.memory_per_node
    if part.memory_per_cpu is not None:
        return part.memory_per_cpu * cpus * asked.ranks
    node = _share(asked, nodes)
    if node is None or not node.cpus:
        return 2**30
    shares = [cpus * asked.ranks / node.cpus, asked.gpus / node.gpu_count if node.gpu_count else 0.0]
    return max(2**30, int(node.memory * min(1.0, max(shares))) // 2**30 * 2**30)


def _fitting(filled: Resources, nodes: Sequence[Node]) -> list[Node]:
    cpus = filled.ranks * (filled.cpus or 1)
    return [
        node
        for node in nodes
        if node.cpus >= cpus and node.gpu_count >= filled.gpus and node.memory >= (filled.memory or 0)
    ]


def _misfit(filled: Resources, part: Partition, nodes: Sequence[Node], fit: Sequence[Node]) -> str:
    """Which ask is too much, and the nearest that is not."""
    if fit:
        most = len(fit)
        return f"--nodes {filled.nodes}: partition {part.name} has {most} that can take it; --nodes {most} would fit"
    gpus = max((node.gpu_count for node in nodes), default=0)
    cpus = max((node.cpus for node in nodes), default=0)
    memory = max((node.memory for node in nodes), default=0)
    where = f"partition {part.name}"
    if filled.gpus > gpus:
        nearest = f"--gpus {gpus} would fit" if gpus else "another --partition may have some"
        return f"--gpus {filled.gpus}: the nodes of {where} have {gpus} at most; {nearest}"
    if filled.ranks * (filled.cpus or 1) > cpus:
        most = cpus // filled.ranks
        nearest = f"--cpus {most} would fit" if most else f"--ranks {cpus} is the most"
        each = f"{filled.ranks} rank{'s' * (filled.ranks > 1)} × {filled.cpus}"
        return f"--cpus {filled.cpus}: {each} are more cores than the {cpus} of a node of {where}; {nearest}"
    if (filled.memory or 0) > memory:
        return f"--memory {say_size(filled.memory or 0)}: the nodes of {where} have {say_size(memory)} at most"
    return (
        f"no node of {where} has {filled.gpus} GPUs, {filled.ranks * (filled.cpus or 1)} cores and "
        f"{say_size(filled.memory or 0)} at once: ask for less of one of them"
    )
