"""Weights that the code trains with ``vmap``, ``vjp``, ``jvp`` or ``jacrev``, whose results are not averaged.

What ``torch.func.grad`` returns is averaged by itself. The others return numbers for each sample, or for a vector that
the code gives, so nobody can know what is to be averaged. But what such a function is given tells enough: a tensor
that was the same on all ranks at first, and is not any more, was a weight.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mlnb.node.parallel.together import rank_group
from mlnb.node.parallel.together.rank_group import CallSite, RankGroup, RanksDiverged
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import is_transformed, is_transforming, tree_leaves

_FACTORIES = ("vmap", "jacrev", "jacfwd", "hessian")
_DIRECT = ("vjp", "jvp", "linearize")

_TOLERANCE = 1e-6
"""Relative difference of norms."""


@dataclass
class _Given:
    """A tensor that a transformed function gets in one line: its norm at first, and what it gets now."""

    first: float
    now: torch.Tensor


class FunctionalWeights:
    """What transformed functions are given in sharded loops.

    Parameters
    ----------
    is_apart
        returns whether the ranks have parts of a batch now.
    """

    def __init__(self, is_apart: Callable[[], bool]) -> None:
        self._is_apart = is_apart
        self._given: dict[tuple[str, int], _Given] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the functions of ``torch.func``."""
        patches.wrap(torch, "vmap", self._wrap_factory)
        for name in _FACTORIES:
            patches.wrap(torch.func, name, self._wrap_factory)
        for name in _DIRECT:
            if hasattr(torch.func, name):
                patches.wrap(torch.func, name, self._wrap_direct)

    def _wrap_factory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def transform(*given: Any, **options: Any) -> Callable[..., Any]:
            function = original(*given, **options)

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                self._note((args, kwargs))
                return function(*args, **kwargs)

            return call

        return transform

    def _wrap_direct(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            self._note(args)
            return original(function, *args, **kwargs)

        return call

    def _note(self, values: Any) -> None:
        group = rank_group.current
        if group is None or not self._is_apart() or torch.compiler.is_compiling() or is_transforming():
            return
        site: CallSite | None = None
        for index, tensor in enumerate(tree_leaves(values)):
            if not isinstance(tensor, torch.Tensor) or tensor.requires_grad or not tensor.is_floating_point():
                continue
            if is_transformed(tensor):
                return
            site = site or group.call_site("torch.func", sys._getframe(2))
            given = self._given.get((site.text, index))
            if given is None:
                is_constant = tensor.numel() == 0 or bool((tensor == tensor.reshape(-1)[0]).all())
                self._given[site.text, index] = _Given(float("nan") if is_constant else _norm(tensor), tensor)
            else:
                given.now = tensor

    def compare(self, group: RankGroup) -> None:
        """Compare what was the same at first; all ranks have met.

        Raises
        ------
        RanksDiverged
            if one differs.
        """
        counts = [int(count) for count in group.gather_tensor(torch.tensor([len(self._given)]))]
        if not any(counts):
            return
        own = {key: (given.first, _norm(given.now)) for key, given in self._given.items()}
        parts: list[dict[tuple[str, int], tuple[float, float]]] = group.gather(own)
        for key in set.intersection(*(set(part) for part in parts)):
            first = {part[key][0] for part in parts}
            now = [part[key][1] for part in parts]
            if len(first) == 1 and max(now) - min(now) > _TOLERANCE * max(now):
                shape = tuple(self._given[key].now.shape)
                raise RanksDiverged(
                    f"the ranks have gone apart: {key[0]} gets a tensor of shape {shape} that was the same on all "
                    "ranks at first, and is not now. mlnb averages gradients of backward(), torch.autograd.grad and "
                    "torch.func.grad, but not what vmap, vjp, jvp or jacrev return for a rank's own samples: use one "
                    "of the former, or --parallel none"
                )


def _norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))
