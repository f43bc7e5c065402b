"""Sees the training without a change to its code: losses at ``backward()``, steps at ``optimizer.step()``.

Nothing here waits for a GPU: a loss on the CPU is read at once (that is cheaper than keeping it), one on a device
is kept as a detached tensor and read by the metrics' thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlnb.node.rank.log import Metrics
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import batches_drawn

_UNSCALED = "_mlnb_unscaled"
_PACE = 1.0
"""Seconds between two values of time per step and samples per second."""


class _Loop:
    """One loop over a loader: how many samples its batches held, asked for now and then."""

    def __init__(self, iterator: Any, batch_size: int) -> None:
        self.iterator, self._batch_size = iterator, batch_size
        self._seen = 0

    @property
    def over(self) -> bool:
        """Whether nobody else has the iterator: the loop has ended, or was left."""
        return sys.getrefcount(self.iterator) <= 2  # ours, and the argument

    def new(self) -> int:
        """Samples since it was asked last."""
        count = batches_drawn(self.iterator)
        new, self._seen = count - self._seen, count
        return int(new * self._batch_size)


class Watch:
    """What was seen of the training in this process.

    Parameters
    ----------
    metrics
        where what is seen goes.
    lonely_ranks
        how many ranks there are, if they must not train without a process group: N independent copies that look
        like one training are never what was meant.

    Attributes
    ----------
    weight
        weight of this rank's loss in the mean over all ranks.
    backwards, steps
        how often ``backward()`` and the busiest optimizer's ``step()`` were called.
    """

    def __init__(self, metrics: Metrics, lonely_ranks: int = 1) -> None:
        self._metrics = metrics
        self._patches = Patches()
        self._put = metrics.put
        self.lonely_ranks = lonely_ranks
        self.weight = 1.0
        self.backwards = 0
        self.samples = 0
        self._counts: dict[int, int] = {}
        self._stepping: set[int] = set()
        self._only = 0  # the one in ``_stepping``, if it is only one
        self._row_began = 0  # the step before its steps that aren't in ``_counts`` yet
        self._optimizers = False
        self._scales = False
        self._loops: list[_Loop] = []
        self._counting = threading.Lock()
        self._last: tuple[float, int, int] | None = None
        metrics.before_flush(self._pace)

    @property
    def steps(self) -> int:
        """Steps of the optimizer that made the most."""
        counts = {0: 0, **self._counts}
        counts[self._only] = counts.get(self._only, 0) + self._in_a_row
        return max(counts.values())

    @property
    def _in_a_row(self) -> int:
        return self._metrics.step - self._row_began if self._only else 0

    def install(self) -> None:
        """Start watching: wraps ``Tensor.backward`` and ``GradScaler.scale``, hooks optimizers and loaders."""
        patches = self._patches
        patches.wrap(torch.Tensor, "backward", self._backward)
        patches.wrap(torch.amp.GradScaler, "scale", self._scale)
        self._wrap_loader(patches)
        patches.wrap(torch.optim.Optimizer, "__init__", self._noted)
        patches.wrap(torch.optim.Optimizer, "__setstate__", self._noted)  # one that came from the session
        patches.later(register_optimizer_step_post_hook(self._stepped()).remove)

    def uninstall(self) -> None:
        """Stop watching: torch is as it was, and nothing is left to pay for."""
        self._patches.undo()

    def _backward(self, original: Callable[..., None]) -> Callable[..., None]:
        # Called in each step. What it touches costs more than what it computes, and most where the caches hold nothing
        # of it: so it reads the loss before backward, and asks for nothing that can be known earlier.
        metrics, add = self._metrics, self._metrics.adder("loss")
        devices = torch.backends.cuda.is_built()

        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            value: Any
            loss = getattr(tensor, _UNSCALED, tensor) if self._scales else tensor
            if devices and loss.is_cuda:
                value = loss.detach() if loss.numel() == 1 else None
            else:
                try:
                    value = loss.item()
                except RuntimeError:  # more than one number: no loss
                    value = None
            now = time()
            if args or kwargs:
                original(tensor, *args, **kwargs)
            else:
                original(tensor)
            self.backwards += 1
            if self.lonely_ranks > 1:
                self._require_group()
            if value is not None:
                step = metrics.step
                add(now, step + 1 if step or self._optimizers else None, value * self.weight)

        return backward

    def _require_group(self) -> None:
        if not torch.distributed.is_initialized():
            ranks = self.lonely_ranks
            raise RuntimeError(
                f"{ranks} ranks would train {ranks} independent copies. "
                "Use torch.nn.parallel.DistributedDataParallel (the environment is torchrun's), "
                "or say --parallel none if copies are what you want."
            )
        self.lonely_ranks = 1

    def _scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(scaled, torch.Tensor) and scaled is not outputs:
                self._scales = True
                setattr(scaled, _UNSCALED, outputs.detach())  # the loss to show is the one before scaling
            return scaled

        return scale

    def _wrap_loader(self, patches: Patches) -> None:
        from torch.utils.data import DataLoader

        def noted(iterate: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def __iter__(loader: Any) -> Any:  # noqa: N807 - takes its place
                self._count_samples()  # before workers that persist begin anew
                iterator = iterate(loader)
                size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
                if torch.is_grad_enabled() and isinstance(size, int):
                    with self._counting:  # workers that persist have one iterator for all their loops
                        others = [loop for loop in self._loops if loop.iterator is not iterator]
                        self._loops = [*others, _Loop(iterator, size)]
                return iterator

            return __iter__

        patches.wrap(DataLoader, "__iter__", noted)

    def _count_samples(self) -> None:
        """Ask loops how many batches they had, so that nothing need be done for a batch itself; from any thread."""
        with self._counting:
            over = [loop for loop in self._loops if loop.over]  # before it is asked, so that nothing is missed
            self.samples += sum(loop.new() for loop in self._loops)
            self._loops = [loop for loop in self._loops if loop not in over]

    def _noted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._optimizers = True
            return original(optimizer, *args, **kwargs)

        return noted

    def _stepped(self) -> Callable[[Any, Any, Any], None]:
        metrics = self._metrics

        def stepped(optimizer: Any, _: Any, __: Any) -> None:
            if id(optimizer) == self._only:  # the one there is: a step a step
                metrics.step += 1
            else:
                self._stepped_in_turn(id(optimizer))

        return stepped

    def _stepped_in_turn(self, key: int) -> None:
        """Count: a step begins when an optimizer steps that has done so in the step before.

        So of several that take turns the busiest counts, and one that follows another counts on.
        """
        counts = self._counts
        counts[self._only] = counts.get(self._only, 0) + self._in_a_row
        counts[key] = counts.get(key, 0) + 1
        if self._stepping and key not in self._stepping:
            self._stepping.add(key)
            self._only = 0
        else:
            self._stepping = {key}
            self._only = key
            self._metrics.step += 1
            self._row_began = self._metrics.step

    def _pace(self) -> None:
        """Put time per step and samples per second, at most once a second, from the metrics' thread."""
        self._count_samples()
        now, step, samples = time(), self._metrics.step, self.samples
        if self._last is None:
            self._last = (now, step, samples)
            return
        seconds = now - self._last[0]
        steps = step - self._last[1]
        if seconds < _PACE or not steps:
            return
        self._put(now, step, "step_time", seconds / steps)
        if samples > self._last[2]:
            self._put(now, step, "samples_per_s", (samples - self._last[2]) / seconds)
        self._last = (now, step, samples)
