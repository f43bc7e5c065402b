"""``ReduceLROnPlateau`` decides alike on all ranks: by the mean of what they give it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mlnb.node.parallel.together import rank_group
from mlnb.node.rank.patches import Patches


def install(patches: Patches) -> None:
    """Wrap ``step``. What a rank gives it may differ from the others' in the last batch, where parts are uneven."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scheduler: Any, metrics: Any, *args: Any, **kwargs: Any) -> Any:
            group = rank_group.current
            if group is not None:
                group.meet(group.call_site("ReduceLROnPlateau.step()", sys._getframe(1)))
                values = [
                    one.item() for one in group.gather_tensor(torch.tensor([float(metrics)], dtype=torch.float64))
                ]
                metrics = values[0] if len(set(values)) == 1 else sum(values) / len(values)
            return original(scheduler, metrics, *args, **kwargs)

        return step

    patches.wrap(ReduceLROnPlateau, "step", wrapper)
