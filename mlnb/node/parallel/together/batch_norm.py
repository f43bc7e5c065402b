"""Batch norm of the whole batch: in a sharded loop its statistics are those of all ranks' parts together.

So a model with batch norm is trained as in one process. The ranks exchange two numbers for each channel in each forward
pass, and as many in its backward.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from mlnb.node.parallel.together import rank_group
from mlnb.node.parallel.together.mean import mean_over_ranks
from mlnb.node.parallel.together.rank_group import RankGroup
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import is_transforming

_Pair = tuple[torch.Tensor | None, torch.Tensor | None]


class BatchNorm:
    """Replaces ``torch.nn.functional.batch_norm``, which the modules of torch and of other libraries call.

    Parameters
    ----------
    weight
        returns the weight of this rank's part in the mean over all ranks.
    is_apart
        returns whether the ranks may have parts of a batch now.
    is_in_backward
        returns whether a backward is at work, which computes a forward pass again.
    """

    def __init__(
        self, weight: Callable[[], float], is_apart: Callable[[], bool], is_in_backward: Callable[[], bool]
    ) -> None:
        self._weight, self._is_apart, self._is_in_backward = weight, is_apart, is_in_backward
        self._whole_in_graphs = self._whole
        self.has_any = False
        """Whether statistics of the whole batch were ever computed."""
        self.is_compiled = False
        """Whether torch.jit has compiled code that calls batch norm: as torch has it, of each rank's part."""

    def install(self, patches: Patches) -> None:
        """Wrap the function."""
        original = torch.nn.functional.batch_norm
        patches.wrap(torch.nn.functional, "batch_norm", self._wrap)

        def prepare() -> Callable[..., torch.Tensor]:
            self.is_compiled = True
            return original

        torch.nn.functional.batch_norm.__prepare_scriptable__ = prepare  # type: ignore[attr-defined]
        patches.wrap(torch, "compile", self._wrap_compile)

    def _wrap(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def batch_norm(
            input: torch.Tensor,  # noqa: A002 - the name that torch has
            running_mean: torch.Tensor | None,
            running_var: torch.Tensor | None,
            weight: torch.Tensor | None = None,
            bias: torch.Tensor | None = None,
            training: bool = False,
            momentum: float = 0.1,
            eps: float = 1e-5,
        ) -> torch.Tensor:
            if not training or not self._is_apart():
                return original(input, running_mean, running_var, weight, bias, training, momentum, eps)
            whole = self._whole_in_graphs if torch.compiler.is_compiling() else self._whole
            return whole(input, (running_mean, running_var), (weight, bias), momentum, eps)

        return batch_norm

    def _wrap_compile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compiled(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._whole_in_graphs = torch.compiler.disable(self._whole)  # imports much, so not before
            return result

        return compiled

    def _whole(self, values: torch.Tensor, running: _Pair, affine: _Pair, momentum: float, eps: float) -> torch.Tensor:
        mean, variance, count = self._statistics(values, sys._getframe(1))
        with torch.no_grad():
            for one, new in zip(running, (mean, variance * (count / (count - 1))), strict=True):
                if one is not None:
                    one.lerp_(new.detach().to(one.dtype), momentum)
        return _normalized(values, mean, variance, affine, eps)

    def _statistics(self, values: torch.Tensor, frame: FrameType) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and variance of each channel over all ranks' parts, and the number of values of a channel."""
        group = rank_group.current
        assert group is not None
        site = group.call_site("batch norm", frame)
        if is_transforming():
            raise rank_group.RanksDiverged(
                f"{site.text} is within a transformation of torch.func, where mlnb can't normalise the whole batch: "
                "use .eval() for it, or pass --parallel none"
            )
        self.has_any = True
        if not self._is_in_backward():
            group.meet(site, values.size(1))
        exact = values if values.dtype == torch.float64 else values.float()
        variance, mean = torch.var_mean(exact, [0, *range(2, values.dim())], correction=0)
        count = mean.new_full((1,), values.numel() // values.size(1) if self._weight() else 0)
        parts = _gathered(torch.cat([mean, variance, count]), group)
        means, variances, counts = parts.split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean).square())).sum(0) / total
        is_same = (parts.detach() == parts.detach()[0]).all()  # outside of a sharded loop all have the same data
        return mean, variance, torch.where(is_same, counts[0, 0], total).detach()


def _gathered(values: torch.Tensor, group: RankGroup) -> torch.Tensor:
    """Each rank's ``values``, one below the other; gradients lead to that rank."""
    own = torch.zeros(group.world, 1, dtype=values.dtype, device=values.device)
    own[group.rank] = group.world
    return mean_over_ranks(own * values, group)


def _normalized(
    values: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    affine: _Pair,
    eps: float,
) -> torch.Tensor:
    weight, bias = affine
    shape = (1, -1, *[1] * (values.dim() - 2))
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    centred = values.to(scale.dtype) - mean.view(shape)
    result = (
        centred * scale.view(shape) if bias is None else torch.addcmul(bias.view(shape), centred, scale.view(shape))
    )
    return result.to(values.dtype)
