"""Keeps the running statistics of batch norm the same on all ranks: after each backward they are means over the ranks.

A forward pass normalises each rank's part of a batch by itself, as DistributedDataParallel does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mlnb.node.parallel.together.rank_group import RankGroup
from mlnb.node.rank.patches import Patches


class BatchStatistics:
    """The running statistics that forward passes have changed since the last backward."""

    def __init__(self) -> None:
        self._changed: dict[int, torch.Tensor] = {}
        self.has_any = False
        """Whether there have ever been any."""

    def install(self, patches: Patches) -> None:
        """Watch forward passes of batch norm."""
        patches.wrap(_BatchNorm, "forward", self._wrap_forward)

    def _wrap_forward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(module, *args, **kwargs)
            if module.training and module.running_mean is not None:
                self._changed.update((id(one), one) for one in (module.running_mean, module.running_var))
            return result

        return forward

    def __len__(self) -> int:
        return len(self._changed)

    def average(self, group: RankGroup) -> None:
        """Set the statistics that were changed to their means over the ranks."""
        if not self._changed:
            return
        changed, self._changed, self.has_any = list(self._changed.values()), {}, True
        with torch.no_grad():
            for dtype, device in dict.fromkeys((one.dtype, one.device) for one in changed):
                alike = [one for one in changed if (one.dtype, one.device) == (dtype, device)]
                flat = torch.cat([one.reshape(-1) for one in alike]) / group.world
                group.wait(group.all_reduce(flat))
                for one, mean in zip(alike, flat.split([one.numel() for one in alike]), strict=True):
                    one.copy_(mean.view_as(one))
