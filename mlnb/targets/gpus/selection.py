"""Chooses among a site's GPUs by type, memory or compute capability, and finds the directives that request them.

The site's GPUs come from the target's settings, or else from the cluster's nodes
(:mod:`mlnb.targets.gpus.kinds`)::

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
from mlnb.targets.gpus.kinds import SLURM, GpuKind, Machine, RequestSyntax, configured, discover
from mlnb.targets.gpus.models import Capability, format_capability, format_gpu_memory, parse_capability, parse_gpu_name
from mlnb.task import Resources

M = TypeVar("M", bound=Machine)


@dataclass(frozen=True)
class GpuRequest:
    """The GPUs that a run needs.

    Attributes
    ----------
    count
        GPUs on each node.
    type, memory, capability
        what each GPU has to be or have at least, memory in bytes; ``None`` for any.
    """

    count: int = 1
    type: str | None = None
    memory: int | None = None
    capability: Capability | None = None

    @property
    def is_any(self) -> bool:
        """Whether any GPU will do."""
        return self.type is None and self.memory is None and self.capability is None

    @property
    def flags(self) -> str:
        """The request as options of ``%%train``."""
        if self.is_any:
            return f"--gpus {self.count}"
        return " ".join(
            [
                *([f"--gpu-type {self.type}"] if self.type is not None else []),
                *([f"--gpu-memory {format_gpu_memory(self.memory)}"] if self.memory is not None else []),
                *([f"--gpu-capability {format_capability(self.capability)}"] if self.capability is not None else []),
            ]
        )


@dataclass(frozen=True)
class GpuSelection:
    """The kinds of GPUs to request.

    Attributes
    ----------
    kinds
        the run gets GPUs of one of these kinds.
    directives
        the options that request them, each as one argument.
    nodes
        names of the nodes that have them; empty if no nodes are known.
    summary_lines
        what was chosen, for the plan.
    """

    kinds: tuple[GpuKind, ...]
    directives: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    summary_lines: tuple[str, ...] = ()


def selection_for(
    requested: Resources, settings: Mapping[str, Any], machines: Sequence[Machine], syntax: RequestSyntax = SLURM
) -> GpuSelection | None:
    """What to request for a run; ``None`` if it needs no GPUs, or if any will do and the settings list none.

    Raises
    ------
    UsageError
        if no GPUs here suffice, with the nearest that do; or if ``gpus:`` of the settings is wrong.
    """
    request, kinds = _request_of(requested), configured(settings, syntax)
    if not request.count or (request.is_any and not kinds):
        return None
    return select(request, kinds or discover(machines), machines)


def refuse_gpu_selection(requested: Resources, reason: str) -> None:
    """Refuse a request for a kind of GPU, on targets that can't choose among GPUs.

    Raises
    ------
    UsageError
        if a type, memory or capability is requested; ``reason`` follows "not possible" in the message.
    """
    request = _request_of(requested)
    if not request.is_any:
        raise UsageError(f"{request.flags}: not possible {reason}")


def _request_of(requested: Resources) -> GpuRequest:
    capability = None
    if requested.gpu_capability is not None:
        try:
            capability = parse_capability(requested.gpu_capability)
        except ValueError as error:
            raise UsageError(f"--gpu-capability {requested.gpu_capability}: --gpu-capability takes {error}") from None
    return GpuRequest(requested.gpus or 0, requested.gpu_type, requested.gpu_memory, capability)


def machines_for(requested: Resources, settings: Mapping[str, Any], machines: Mapping[str, M]) -> dict[str, M]:
    """The machines that have the requested GPUs; all machines if any GPU will do, or if none has the requested ones."""
    try:
        choice = selection_for(requested, settings, tuple(machines.values()))
    except UsageError:
        choice = None
    return {name: machine for name, machine in machines.items() if choice is None or name in choice.nodes}


def most_gpus(settings: Mapping[str, Any], machines: Sequence[Machine], syntax: RequestSyntax = SLURM) -> int:
    """The most GPUs that one of ``machines`` has; without machines, 1 if the settings list any GPUs, else 0."""
    kinds = configured(settings, syntax)
    if not machines:
        return min(1, len(kinds))
    if kinds:
        return max(_most_of_kind(kind, machines) for kind in kinds)
    return max(sum(machine.gpus.values()) for machine in machines)


def select(request: GpuRequest, kinds: Sequence[GpuKind], machines: Sequence[Machine] = ()) -> GpuSelection:
    """Choose the smallest kind that suffices, so that big GPUs stay free for runs that need them.

    If kinds differ only by the one feature that requests them, any of them is requested, which starts sooner.

    Raises
    ------
    UsageError
        if none suffices: the message has the request, what the site has, and the nearest request that it can satisfy.
    """
    suitable = [kind for kind in kinds if not _unmet(kind, request)]
    available = [kind for kind in suitable if not machines or kind.nodes_with(machines, request.count)]
    if not available:
        raise UsageError(_refusal(request, suitable or kinds, machines))
    available.sort(key=lambda kind: kind.size)
    chosen, directives = _any_of(available, request.count)
    nodes = {name: None for kind in chosen for name in kind.nodes_with(machines, request.count)}
    on = f" on {_node_count(len(nodes))}" if nodes else ""
    lines = [f"GPUs: {' or '.join(kind.description for kind in chosen)}{on}"]
    rest = dict.fromkeys(kind.type for kind in available if kind not in chosen and kind.type)
    if rest:
        are_left = f"{', '.join(rest)} would do, too, and {'are' if len(rest) > 1 else 'is'} left"
        lines.append(f"{are_left} to runs that need more; --gpu-type chooses it")
    return GpuSelection(tuple(chosen), directives, tuple(nodes), tuple(lines))


def _any_of(kinds: Sequence[GpuKind], count: int) -> tuple[list[GpuKind], tuple[str, ...]]:
    """The first kind, with those that one constraint can request together with it; and the directives."""
    first = kinds[0].options(count)
    feature = _single_feature(first)
    if feature is None:
        return [kinds[0]], first
    others = [option for option in first if not option.startswith("--constraint=")]
    chosen, features = [], []
    for kind in kinds:
        options = kind.options(count)
        other = _single_feature(options)
        if other is not None and [option for option in options if not option.startswith("--constraint=")] == others:
            chosen.append(kind)
            features += [other] if other not in features else []
    return chosen, (f"--constraint={'|'.join(features)}", *others)


def _single_feature(options: Iterable[str]) -> str | None:
    """The feature of a constraint that names only one; ``None`` otherwise."""
    constraints = [option.partition("=")[2] for option in options if option.startswith("--constraint=")]
    is_single = len(constraints) == 1 and re.fullmatch(r"[A-Za-z0-9_.:=-]+", constraints[0])
    return constraints[0] if is_single else None


def _unmet(kind: GpuKind, request: GpuRequest) -> list[str]:
    """Which of ``type``, ``memory`` and ``capability`` the kind does not meet."""
    return [
        *(["type"] if request.type is not None and not _is_type(kind, request.type) else []),
        *(["memory"] if request.memory is not None and not _has_memory(kind, request.memory) else []),
        *(
            ["capability"]
            if request.capability is not None and (kind.capability or (0, 0)) < request.capability
            else []
        ),
    ]


def _has_memory(kind: GpuKind, memory: int) -> bool:
    # 24GiB means what is sold with 24GB
    return kind.memory is not None and (memory <= kind.memory or memory * 10**9 == kind.memory * 2**30)


def _is_type(kind: GpuKind, name: str) -> bool:
    if name.lower() == kind.type.lower():
        return True
    wanted, model = parse_gpu_name(name), parse_gpu_name(kind.type)
    if wanted is None or model is None or (wanted.name, wanted.mig_slice) != (model.name, model.mig_slice):
        return False
    # an a100-80gb is not just any a100
    return not wanted.memory_is_exact or wanted.memory == kind.memory


def _refusal(request: GpuRequest, kinds: Sequence[GpuKind], machines: Sequence[Machine]) -> str:
    """The error text: the request, what the site has, and the nearest request that it can satisfy."""
    if not kinds:
        return f"{request.flags}: no GPUs are known here; list them under gpus: in the target's settings"
    nearest = min(kinds, key=lambda kind: _distance(kind, request, machines))
    unmet = _unmet(nearest, request)
    count = min(request.count, _most_of_kind(nearest, machines)) if machines else request.count
    fewer = count < request.count
    flags = request.flags if request.is_any or not fewer else f"--gpus {request.count} {request.flags}"
    if count == 0:
        return f"{flags}: no node here has {nearest.description}"
    for attribute, value in (("memory", nearest.memory), ("capability", nearest.capability)):
        if attribute in unmet and value is None:
            unknown = f"the {attribute} of {nearest.description} is unknown"
            return f"{flags}: {unknown}; give it under gpus: in the target's settings"
    instead = GpuRequest(
        count,
        nearest.type if "type" in unmet else request.type,
        nearest.memory if "memory" in unmet else request.memory,
        nearest.capability if "capability" in unmet else request.capability,
    )
    change = GpuRequest(
        count,
        instead.type if "type" in unmet else None,
        instead.memory if "memory" in unmet else None,
        instead.capability if "capability" in unmet else None,
    )
    nodes = {name for kind in kinds if not _unmet(kind, instead) for name in kind.nodes_with(machines, count)}
    changes = " ".join([*([f"--gpus {count}"] if fewer else []), *([] if change.is_any else [change.flags])])
    offered = (
        f"nodes have {count} × {nearest.description} at most"
        if fewer and not unmet
        else _offered(nearest, request, kinds)
    )
    having = f" ({_node_count(len(nodes))} {'has' if len(nodes) == 1 else 'have'} it)" if machines else ""
    return f"{flags}: {offered}; try {changes}{having}"


def _distance(kind: GpuKind, request: GpuRequest, machines: Sequence[Machine]) -> tuple[object, ...]:
    """A sort key: how far ``kind`` is from the request; the biggest of equal ones comes first."""
    unmet = _unmet(kind, request)
    major, minor = kind.capability or (0, 0)
    bigger = (kind.memory is None, -(kind.memory or 0), -major, -minor)
    if unmet == ["capability"]:
        bigger = (kind.capability is None, -major, -minor, -(kind.memory or 0))
    return "type" in unmet, len(unmet), -min(request.count, _most_of_kind(kind, machines)), *bigger


def _most_of_kind(kind: GpuKind, machines: Sequence[Machine]) -> int:
    """The most GPUs of ``kind`` that one node has."""
    return max((kind.count_on(machine) for machine in machines), default=0)


def _offered(nearest: GpuKind, request: GpuRequest, kinds: Sequence[GpuKind]) -> str:
    """What the site has instead of the requested GPUs."""
    unmet = _unmet(nearest, request)
    if "type" in unmet:
        return f"there are {', '.join(dict.fromkeys(kind.description for kind in kinds))}"
    of = f" {request.type}" if request.type is not None else ""
    capability = (
        f" and capability {format_capability(nearest.capability)}"
        if nearest.capability and "capability" in unmet
        else ""
    )
    superlative = "largest" if unmet == ["memory"] and request.capability is None else "nearest"
    superlative = "newest" if unmet == ["capability"] and request.memory is None else superlative
    has = (
        f"has {format_gpu_memory(nearest.memory)}" if of and nearest.memory is not None else f"is {nearest.description}"
    )
    return f"the {superlative}{of} here {has}{capability}"


def _node_count(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
