"""The mean over all ranks, within the graph of autograd."""

from __future__ import annotations

from typing import Any

import torch

from mlnb.node.parallel.together.rank_group import RankGroup


def mean_over_ranks(values: torch.Tensor, group: RankGroup) -> torch.Tensor:
    """Return the mean of ``values`` over all ranks, which must all call this; gradients lead through it."""
    mean: torch.Tensor = _Mean.apply(values, group)  # type: ignore[no-untyped-call]
    return mean


class _Mean(torch.autograd.Function):
    """Its gradient is the mean over all ranks, too."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, group: RankGroup) -> torch.Tensor:
        ctx.group = group
        mean = values.detach() / group.world
        group.wait(group.all_reduce(mean))
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Mean.apply(gradient, ctx.group), None  # type: ignore[no-untyped-call]
