"""The leaves that a backward reaches, and which of them are parameters of the model.

A leaf is a parameter if it is an ``nn.Parameter``, an optimizer has it, or it has the same value on all ranks. Another
leaf is the rank's own: inputs whose gradients the code wants, as for adversarial examples.
"""

from __future__ import annotations

import gc
import itertools
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

import torch

from mlnb.node.rank.loss_names import own_frame
from mlnb.node.torch_private import ACCUMULATE

_FIRST = 100
"""Items of a container that are looked at."""


def reached(roots: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The leaves that a backward from ``roots`` reaches, in an order that is the same for equal graphs."""
    leaves: list[torch.Tensor] = []
    seen: set[Any] = set()
    nodes: list[Any] = []
    for root in roots:
        if root.grad_fn is not None:
            nodes.append(root.grad_fn)
        elif root.requires_grad:
            leaves.append(root)
    while nodes:
        node: Any
        for node, _ in nodes.pop().next_functions:
            if node is None or node in seen:
                continue
            seen.add(node)
            if type(node) is ACCUMULATE:
                leaves.append(node.variable)
            else:
                nodes.append(node)
    return leaves


def tensors_in(value: Any, depth: int) -> Iterator[torch.Tensor]:
    """The tensors in nested containers, and attributes of objects, down to ``depth``; the first of long ones."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple, dict)):
        for item in itertools.islice(value.values() if isinstance(value, dict) else value, _FIRST):
            yield from tensors_in(item, depth - 1)
    elif depth and not isinstance(value, (type, ModuleType, torch.nn.Module)):
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield from tensors_in(attributes, depth - 1)


def of_variables(frame: FrameType | None) -> Iterator[torch.Tensor]:
    """The leaves among the variables of the user's functions that ``frame`` has been called by, and of the script."""
    frame = own_frame(frame)
    scopes = [vars(sys.modules["__main__"])]
    while frame is not None:
        scopes.append(frame.f_locals)
        frame = own_frame(frame.f_back)
    for scope in scopes:
        for name, value in list(scope.items()):
            if not name.startswith("__"):
                yield from (one for one in tensors_in(value, 3) if one.requires_grad and one.is_leaf)


@dataclass(frozen=True)
class Leaf:
    """What ranks tell each other about a leaf."""

    name: str
    is_parameter: bool
    shape: tuple[int, ...]
    dtype: str
    checksum: int

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype.removeprefix('torch.')} of shape {self.shape}"


def describe(tensors: Iterable[torch.Tensor], is_parameter: bool | None = None) -> list[Leaf]:
    """Describe leaves; ``is_parameter`` overrides what their types say."""
    names = _names()
    leaves = []
    for tensor in tensors:
        is_one = isinstance(tensor, torch.nn.Parameter) if is_parameter is None else is_parameter
        name = names.get(id(tensor), "a parameter" if is_one else "a tensor")
        leaves.append(Leaf(name, is_one, tuple(tensor.shape), str(tensor.dtype), _checksum(tensor)))
    return leaves


def _names() -> dict[int, str]:
    """Names of parameters, within the outermost module that has them, and of tensors of the script, by ``id``."""
    names: dict[int, str] = {}
    for module in [one for one in gc.get_objects() if isinstance(one, torch.nn.Module)]:
        for name, parameter in [*module.named_parameters(), *module.named_buffers()]:
            if len(name) > len(names.get(id(parameter), "")):
                names[id(parameter)] = name
    for name, value in list(vars(sys.modules["__main__"]).items()):
        if isinstance(value, torch.Tensor):
            names.setdefault(id(value), name)
    return names


def _checksum(tensor: torch.Tensor) -> int:
    with torch.no_grad():
        values = tensor.detach().cpu().contiguous().reshape(-1)
        if values.is_sparse or values.numel() == 0:
            return 0
        return zlib.crc32(values.view(torch.uint8).numpy().tobytes())


def differing(leaves: list[list[Leaf]]) -> str | None:
    """How the ranks' leaves differ in names, shapes or types; ``None`` if they don't."""
    for rank, others in enumerate(leaves):
        for ours, theirs in zip(leaves[0], others, strict=False):
            if (ours.name, ours.shape, ours.dtype) != (theirs.name, theirs.shape, theirs.dtype):
                return f"rank 0 has {ours}; rank {rank} has {theirs}"
        if len(others) != len(leaves[0]):
            longer = max(leaves[0], others, key=len)
            one = longer[min(len(others), len(leaves[0]))]
            which, other = (0, rank) if longer is leaves[0] else (rank, 0)
            return f"rank {which} has {one}, which rank {other} lacks"
    return None
