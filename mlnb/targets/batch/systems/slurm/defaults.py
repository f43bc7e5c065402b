"""Completes a request for SLURM from the partition's limits and its nodes, and refuses what can never start.

Only what is certain is refused: if SLURM shows no nodes, or does not track their memory, ``sbatch`` has to check.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import UsageError
from mlnb.targets.base import gpus_of
from mlnb.targets.batch.request import ResolvedRequest
from mlnb.targets.batch.systems.slurm.nodes import Node, Partition
from mlnb.targets.batch.systems.slurm.text import split_list
from mlnb.targets.gpus import selection as gpu_selection
from mlnb.task import Resources
from mlnb.units import format_size, format_time

_DAY = 86400


def default(partitions: Mapping[str, Partition]) -> Partition | None:
    """The partition of jobs that name none."""
    return next((part for part in partitions.values() if part.default), None)


def resolve(
    requested: Resources,
    name: str | None,
    nodes: Mapping[str, Node],
    partitions: Mapping[str, Partition],
    settings: Mapping[str, Any],
) -> ResolvedRequest:
    """Complete the resources of a job for partition ``name``; for the default partition without a name.

    ``name`` may be several, separated by commas. The first partition that can run the job completes the resources. The
    others that can run it with the same resources are passed to SLURM, too, which uses the one that starts it first.

    Raises
    ------
    UsageError
        for what no node or no limit of a partition allows, with the nearest that would do.
    """
    chosen, others, lines = None, [], []
    refusals: list[UsageError] = []
    for part in _chosen_partitions(name, partitions):
        try:
            resolved, suitability = _resolve_in(chosen.resources if chosen else requested, part, nodes, settings)
        except UsageError as error:
            refusals.append(error)
            lines.append(f"not in partition {part.name}: {error}")
            continue
        if chosen is None:
            chosen = resolved
        elif resolved.gpu_directives == chosen.gpu_directives:
            others.append(part.name)
            lines.append(f"or partition {part.name}: {suitability}")
        else:
            lines.append(f"not in partition {part.name}: its GPUs are requested by another directive")
    if chosen is None:
        raise refusals[0]
    return replace(
        chosen, partition=",".join([chosen.partition or "", *others]), summary_lines=(*chosen.summary_lines, *lines)
    )


def _chosen_partitions(name: str | None, partitions: Mapping[str, Partition]) -> list[Partition]:
    if name is None:
        default_partition = default(partitions)
        if default_partition is None:
            raise UsageError(f"Choose a --partition: SLURM has no default here. Available: {', '.join(partitions)}.")
        return [default_partition]
    for each in split_list(name):
        if each not in partitions:
            near = difflib.get_close_matches(each, partitions, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            available = ", ".join(partitions) or "none that you may use"
            raise UsageError(f"Unknown partition {each}.{hint} Available: {available}.")
    return [partitions[each] for each in dict.fromkeys(split_list(name))]


def _resolve_in(
    requested: Resources, part: Partition, nodes: Mapping[str, Node], settings: Mapping[str, Any]
) -> tuple[ResolvedRequest, str]:
    """The resources completed for this partition, and a line for the plan: how many of its nodes can run the job."""
    if part.state != "UP":
        raise UsageError(f"--partition {part.name}: SLURM says that it is {part.state.lower()} and accepts no jobs")
    candidates = [part.capped(nodes[each]) for each in part.nodes if each in nodes]
    has_nodes = bool(candidates)
    requested = replace(requested, gpus=gpus_of(requested, gpu_selection.most_gpus(settings, candidates)))
    gpus: tuple[str, ...] = ()
    summary = [f"partition {part.name}"]
    choice = gpu_selection.selection_for(requested, settings, candidates)
    if choice is not None:
        gpus = choice.directives
        summary += choice.summary_lines
        candidates = [node for node in candidates if node.name in choice.nodes]
    time, lines = _time(requested, part)
    if part.max_nodes is not None and requested.nodes > part.max_nodes:
        raise UsageError(f"--nodes {requested.nodes}: partition {part.name} allows {part.max_nodes} a job")
    cpus = requested.cpus or _cores(requested, part, candidates)
    resolved = replace(requested, cpus=cpus, memory=_memory(requested, cpus, part, candidates), time=time)
    suitability = "SLURM shows no nodes of it: whether they can take it was not checked"
    if has_nodes:
        suitable = _suitable_nodes(resolved, candidates)
        if len(suitable) < requested.nodes:
            raise UsageError(_too_much(resolved, part, candidates, suitable))
        usable = [node.name for node in suitable if node.usable]
        down = f", {len(suitable) - len(usable)} of them not available now" if len(usable) < len(suitable) else ""
        suitability = f"{len(suitable)} of its {len(part.nodes)} nodes can take it{down}"
    return ResolvedRequest(resolved, part.name, gpus, (*summary, suitability, *lines)), suitability


def _time(requested: Resources, part: Partition) -> tuple[int, list[str]]:
    if requested.time is not None:
        if part.max_time is not None and requested.time > part.max_time:
            raise UsageError(
                f"--time {format_time(requested.time)}: partition {part.name} allows "
                f"{format_time(part.max_time)} at most"
            )
        return requested.time, []
    if part.default_time is not None:
        return part.default_time, [f"{format_time(part.default_time)} is partition {part.name}'s default"]
    most = min(part.max_time or _DAY, _DAY)
    return most, [f"{format_time(most)} is what partition {part.name} allows: a shorter --time may start sooner"]


def _smallest_with_gpus(requested: Resources, nodes: Sequence[Node]) -> Node | None:
    """The smallest node with enough GPUs: what is a share of it fits on the larger nodes, too."""
    suitable = [node for node in nodes if node.gpu_count >= (requested.gpus or 0)]
    return min(suitable, key=lambda node: (node.cpus, node.memory or 0), default=None)


def _cores(requested: Resources, part: Partition, nodes: Sequence[Node]) -> int:
    """Cores per rank: the partition's default per GPU, else the GPUs' share of a node; up to four without GPUs."""
    if requested.gpus and part.cpus_per_gpu is not None:
        return max(1, part.cpus_per_gpu * requested.gpus // requested.ranks)
    node = _smallest_with_gpus(requested, nodes)
    if node is None:
        return 1
    if requested.gpus and node.gpu_count:
        return max(1, node.cpus * requested.gpus // (node.gpu_count * requested.ranks))
    return max(1, min(4, node.cpus // requested.ranks))


def _memory(requested: Resources, cpus: int, part: Partition, nodes: Sequence[Node]) -> int | None:
    """Bytes per node: as requested, else the partition's default, else the share of the cores or GPUs in a node.

    ``None`` if SLURM does not track memory, or shows no nodes: the site's default then applies.
    """
    if nodes and all(node.memory is None for node in nodes):
        if requested.memory is not None:
            raise UsageError(
                f"--memory {format_size(requested.memory)}: SLURM does not track memory in partition "
                f"{part.name}; leave --memory out"
            )
        return None
    if requested.memory is not None:
        return requested.memory
    cores, node = (
        cpus * requested.ranks,
        _smallest_with_gpus(requested, [node for node in nodes if node.memory is not None]),
    )
    most = [node.memory] if node is not None and node.memory is not None else []
    most += [part.max_memory_per_cpu * cores] if part.max_memory_per_cpu is not None else []
    if requested.gpus and part.memory_per_gpu is not None:
        return min([part.memory_per_gpu * requested.gpus, *most])
    if part.memory_per_node is not None:
        return min([part.memory_per_node, *most])
    if part.memory_per_cpu is not None:
        return min([part.memory_per_cpu * cores, *most])
    if node is None or node.memory is None or not node.cpus:
        return None
    shares = [cores / node.cpus, (requested.gpus or 0) / node.gpu_count if node.gpu_count else 0.0]
    return min([max(2**30, int(node.memory * min(1.0, max(shares))) // 2**30 * 2**30), *most])


def _suitable_nodes(resolved: Resources, nodes: Sequence[Node]) -> list[Node]:
    cpus = resolved.ranks * (resolved.cpus or 1)
    return [
        node
        for node in nodes
        if node.cpus >= cpus
        and node.gpu_count >= (resolved.gpus or 0)
        and (resolved.memory is None or (node.memory or 0) >= resolved.memory)
    ]


def _too_much(resolved: Resources, part: Partition, nodes: Sequence[Node], suitable: Sequence[Node]) -> str:
    """The error text: which part of the request no node has, and the nearest that one has."""
    if suitable:
        most = len(suitable)
        return f"--nodes {resolved.nodes}: partition {part.name} has {most} that can take it; try --nodes {most}"
    gpus = max((node.gpu_count for node in nodes), default=0)
    cpus = max((node.cpus for node in nodes), default=0)
    memory = max((node.memory or 0 for node in nodes), default=0)
    where, gpus_requested = f"partition {part.name}", resolved.gpus or 0
    if gpus_requested > gpus:
        nearest = f"try --gpus {gpus}" if gpus else "another --partition may have some"
        return f"--gpus {gpus_requested}: the nodes of {where} have {gpus} at most; {nearest}"
    if resolved.ranks * (resolved.cpus or 1) > cpus:
        most = cpus // resolved.ranks
        nearest = f"try --cpus {most}" if most else f"--ranks {cpus} is the most"
        each = f"{resolved.ranks} rank{'s' * (resolved.ranks > 1)} × {resolved.cpus}"
        return f"--cpus {resolved.cpus}: {each} are more cores than the {cpus} of a node of {where}; {nearest}"
    if (resolved.memory or 0) > memory:
        return f"--memory {format_size(resolved.memory or 0)}: the nodes of {where} have {format_size(memory)} at most"
    return (
        f"no node of {where} has {gpus_requested} GPUs, {resolved.ranks * (resolved.cpus or 1)} cores and "
        f"{format_size(resolved.memory or 0)} at once: ask for less of one of them"
    )
