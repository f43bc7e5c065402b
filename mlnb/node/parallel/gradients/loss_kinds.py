"""Tells a loss that is a mean over samples, which ranks can average, from a sum, and from one of the whole batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch

from mlnb.node.torch_private import ACCUMULATE, raw_item, saved


class Kind(Enum):
    """What the mean over the ranks of a loss is to the loss of the whole batch."""

    MEAN = "it is the loss of the whole batch"
    SUM = (
        "the loss is a sum over the batch. Gradients are means over the ranks, so they are those of a batch as large "
        "as one rank's, with less noise; one process with the whole batch would add up more samples. With the mean "
        "over the batch, or a division by its size, both are the same"
    )
    WHOLE = (
        "the loss is not a mean over samples: it needs the whole batch at once, or leaves out or weights some of its "
        "samples. Each rank computes it of its own part, and what is trained with is the mean over the ranks, as with "
        "DistributedDataParallel; one process with the whole batch would have another loss"
    )


_LINEAR = (
    "Add",
    "Sub",
    "Rsub",
    "Neg",
    "Mul",
    "Sum",
    "Mean",
    "Stack",
    "Cat",
    "Clone",
    "ToCopy",
    "Alias",
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
)
_BENT = ("Sqrt", "Log", "Exp", "Pow", "Reciprocal", "Sigmoid", "Tanh", "Abs", "Relu", "Clamp", "Maximum", "Minimum")
"""Beginnings of names of operations: of those that the mean over ranks can be exchanged with, and of others."""

_WHOLE = ("LinalgVectorNorm", "Norm", "Std", "Var")
_MEAN, _SUM = 1, 2
"""How torch's losses save their ``reduction``."""


def kind(loss: torch.Tensor, sizes: set[int]) -> Kind:
    """What ``loss`` is, of a batch whose tensors have as many samples as one of ``sizes`` says."""
    kinds = set(_reductions(loss.grad_fn, sizes))
    if Kind.WHOLE in kinds or _mixes_samples(loss.grad_fn, sizes):
        return Kind.WHOLE
    return Kind.SUM if Kind.SUM in kinds else Kind.MEAN


def _reductions(root: Any, sizes: set[int]) -> Iterable[Kind]:
    """The kinds of the reductions over the batch that a loss consists of."""
    nodes: list[tuple[Any, bool, bool]] = [(root, False, False)]  # with whether it is divided; is bent
    visited: set[Any] = set()
    while nodes:
        node, is_divided, is_bent = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        name = type(node).__name__
        following = [one for one, _ in node.next_functions]
        reduction = saved(node, "reduction")
        is_sum = reduction == _SUM or (name.startswith("Sum") and _is_over_batch(node, sizes))
        is_mean = reduction == _MEAN or (name.startswith("Mean") and _is_over_batch(node, sizes))
        if (is_mean and _leaves_out(node)) or (name.startswith(_WHOLE) and _is_over_batch(node, sizes)):
            yield Kind.WHOLE
        elif is_sum or is_mean:
            yield Kind.WHOLE if is_bent else Kind.SUM if is_sum and not is_divided else Kind.MEAN
        elif name.startswith("Div"):
            is_ratio = len(following) > 1 and following[1] is not None
            nodes += [(one, is_divided or not is_ratio, is_bent or is_ratio) for one in following]
        elif name.startswith(_BENT):
            nodes += [(one, is_divided, True) for one in following]
        elif name.startswith(_LINEAR):
            is_product = name.startswith("Mul") and None not in following and len(following) > 1
            is_small = name.startswith("Mul") and _multiplies_by_little(node)
            nodes += [(one, is_divided or is_small, is_bent or is_product) for one in following]


def _is_over_batch(node: Any, sizes: set[int]) -> bool:
    """Whether the first dimension may be that of the batch, and is among those that are reduced."""
    shape = tuple(saved(node, "self_sym_sizes") or ())
    if not shape and isinstance(saved(node, "self"), torch.Tensor):
        shape = tuple(saved(node, "self").shape)
    dims = saved(node, "dim")
    dims = (dims,) if isinstance(dims, int) else dims
    over_first = not dims or any(_signed(dim) % max(1, len(shape)) == 0 for dim in dims)
    return bool(shape) and over_first and (shape[0] in sizes or math.prod(shape) in sizes)


def _signed(dim: int) -> int:
    """A dimension that autograd has saved as a number without a sign."""
    return dim - 2**64 if dim >= 2**63 else dim


def _multiplies_by_little(node: Any) -> bool:
    """Whether a multiplication is by a small number, as one over the size of a batch."""
    for factor in (saved(node, "other"), saved(node, "self")):
        if isinstance(factor, torch.Tensor) and factor.dim() == 0 and not factor.requires_grad and factor.is_cpu:
            return bool(abs(raw_item(factor)) < 1 / 2)
    return False


def _leaves_out(node: Any) -> bool:
    """Whether the mean of ``nll_loss`` or ``cross_entropy`` is over other numbers of samples on each rank."""
    if saved(node, "weight") is not None and saved(node, "ignore_index") is not None:
        return True
    ignored, target = saved(node, "ignore_index"), saved(node, "target")
    if ignored is None or not isinstance(target, torch.Tensor):
        return False
    return bool(raw_item(torch.eq(target, _signed(ignored)).any()))


def _mixes_samples(root: Any, sizes: set[int]) -> bool:
    """Whether there is a product of the batch with itself, of which no factor is a parameter: similarities."""
    nodes, visited = [root], {root}
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if type(node).__name__.startswith("Mm") and _is_square(node, sizes):
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                nodes.append(following)
    return False


def _is_square(node: Any, sizes: set[int]) -> bool:
    rows, columns = (tuple(saved(node, f"{name}_sym_sizes") or ()) for name in ("self", "mat2"))
    if len(rows) != 2 or len(columns) != 2 or rows[0] != columns[1]:
        return False
    factors = [_without_views(one) for one, _ in node.next_functions]
    is_of_batch = any(size > 1 and rows[0] % size == 0 for size in sizes)
    return is_of_batch and not any(one is None or type(one) is ACCUMULATE for one in factors)


def _without_views(node: Any) -> Any:
    while node is not None and type(node).__name__.startswith(("T", "Transpose", "Permute")) and node.next_functions:
        if type(node).__name__.startswith("Tanh"):
            break
        node = node.next_functions[0][0]
    return node
