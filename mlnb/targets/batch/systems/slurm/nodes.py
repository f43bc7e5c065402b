"""The nodes and partitions of a SLURM cluster, read from ``scontrol show node`` and ``scontrol show partition``.

Formats: scontrol(1), and the output of SLURM 22.05.8. What can't be parsed is left out; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlnb.targets.batch.systems.slurm.text import duration, expand, number, pairs, split_list

NODES_COMMAND = ("scontrol", "--all", "show", "node", "--details", "--oneliner")
"""The command that lists all nodes, one per line; ``--details`` adds which GPUs are in use."""

PARTITIONS_COMMAND = ("scontrol", "show", "partition", "--oneliner")
"""The command that lists the partitions that this user may see, one per line."""

MIB = 2**20
"""The unit of memory in SLURM's output, in bytes."""

_UNUSABLE = frozenset(
    {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "FUTURE", "UNKNOWN", "NOT_RESPONDING"}
)


@dataclass(frozen=True)
class Node:
    """One machine.

    Attributes
    ----------
    cpus
        CPUs that jobs may have; the site decides whether SLURM counts cores or hardware threads.
    memory
        bytes that jobs may have; ``None`` if the site does not configure memory as a resource.
    gpus, gpus_used
        count of GPUs by type; the type is empty if the site names none. A node without GPUs has ``{}``.
    features
        features that ``--constraint`` can select.
    state
        as SLURM writes it, like ``IDLE`` or ``MIXED+DRAIN``.
    """

    name: str
    cpus: int = 0
    memory: int | None = None
    gpus: Mapping[str, int] = field(default_factory=dict)
    gpus_used: Mapping[str, int] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    state: str = ""
    partitions: tuple[str, ...] = ()
    cpus_used: int = 0
    memory_used: int = 0

    @property
    def usable(self) -> bool:
        """Whether jobs can start on it: it is neither down nor drained, and it answers."""
        # "*" after a state: it doesn't answer (sinfo(1), NODE STATE CODES)
        return "*" not in self.state and not _UNUSABLE.intersection(re.findall(r"[A-Z_]+", self.state.upper()))

    @property
    def gpu_count(self) -> int:
        """GPUs of all types."""
        return sum(self.gpus.values())

    @property
    def gpus_free(self) -> int:
        """GPUs of all types that no job has."""
        return max(0, self.gpu_count - sum(self.gpus_used.values()))


@dataclass(frozen=True)
class Partition:
    """One queue.

    Attributes
    ----------
    max_time, default_time
        seconds; ``None`` for no limit, and for no default (then the limit is the default).
    max_nodes
        nodes of one job; ``None`` for no limit.
    memory_per_cpu, memory_per_node
        default memory of a job, in bytes; ``None`` if the partition sets none: then that of slurm.conf holds.
    cpus_per_gpu, memory_per_gpu
        defaults of a job that requests GPUs.
    max_cpus, max_memory, max_memory_per_cpu
        the most that a job may have of one node; ``None`` for no limit.
    state
        ``UP``, ``DOWN``, ``DRAIN`` or ``INACTIVE``.
    """

    name: str
    default: bool = False
    max_time: int | None = None
    default_time: int | None = None
    max_nodes: int | None = None
    nodes: tuple[str, ...] = ()
    state: str = ""
    memory_per_cpu: int | None = None
    memory_per_node: int | None = None
    max_cpus: int | None = None
    max_memory: int | None = None
    max_memory_per_cpu: int | None = None
    cpus_per_gpu: int | None = None
    memory_per_gpu: int | None = None

    def capped(self, node: Node) -> Node:
        """``node``, reduced to what a job of this partition may have of it."""
        cpus = _smallest(node.cpus, self.max_cpus)
        per_cpu = None if self.max_memory_per_cpu is None else self.max_memory_per_cpu * cpus
        memory = None if node.memory is None else _smallest(node.memory, self.max_memory, per_cpu)
        return replace(node, cpus=cpus, memory=memory)


def _smallest(value: int, *limits: int | None) -> int:
    return min([value, *(limit for limit in limits if limit is not None)])


def parse_nodes(text: str) -> dict[str, Node]:
    """The nodes of what :data:`NODES_COMMAND` printed, by name."""
    nodes = {}
    for line in text.splitlines():
        node = pairs(line)
        if name := node.get("NodeName"):
            nodes[name] = Node(
                name,
                number(node.get("CPUEfctv")) or number(node.get("CPUTot")) or 0,
                _memory(node),
                gpus(node.get("Gres", "")),
                gpus(node.get("GresUsed", "")),
                split_list(node.get("ActiveFeatures") or node.get("AvailableFeatures", "")),
                node.get("State", ""),
                split_list(node.get("Partitions", "")),
                number(node.get("CPUAlloc")) or 0,
                (number(node.get("AllocMem")) or 0) * MIB,
            )
    return nodes


def _memory(node: Mapping[str, str]) -> int | None:
    """Bytes that jobs may have: without those kept for SLURM's own daemon."""
    real = number(node.get("RealMemory")) or 0
    if real <= 1:  # the default of slurm.conf(5)
        return None
    return max(0, real - (number(node.get("MemSpecLimit")) or 0)) * MIB


def parse_partitions(text: str) -> dict[str, Partition]:
    """The partitions of what :data:`PARTITIONS_COMMAND` printed, by name."""
    partitions = {}
    for line in text.splitlines():
        part = pairs(line)
        if name := part.get("PartitionName"):
            defaults = dict(each.split("=", 1) for each in split_list(part.get("JobDefaults", "")) if "=" in each)
            partitions[name] = Partition(
                name,
                part.get("Default", "").upper() == "YES",
                duration(part.get("MaxTime", "")),
                duration(part.get("DefaultTime", "")),
                number(part.get("MaxNodes")),
                expand(part.get("Nodes", "")),
                part.get("State", "").upper(),
                _size(part.get("DefMemPerCPU")),
                _size(part.get("DefMemPerNode")),
                number(part.get("MaxCPUsPerNode")),
                _size(part.get("MaxMemPerNode")),
                _size(part.get("MaxMemPerCPU")),
                number(defaults.get("DefCpuPerGPU")),
                _size(defaults.get("DefMemPerGPU")),
            )
    return partitions


def _size(text: str | None) -> int | None:
    count = number(text)
    return None if count is None else count * MIB


def gpus(gres: str) -> dict[str, int]:
    """Counts the GPUs in a list of generic resources: ``gpu:a100:4(S:0-1),gpu:2,shard:8`` is ``{"a100": 4, "": 2}``."""
    counts: dict[str, int] = {}
    for part in re.sub(r"\([^)]*\)?", "", gres).split(","):
        match = re.fullmatch(r"gpu:(?:([^:]+):)?([0-9]{1,6})", part.strip())
        if match:
            kind = match[1] or ""
            counts[kind] = counts.get(kind, 0) + int(match[2])
    return counts
