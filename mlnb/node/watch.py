"""Sees the training without a change to its code: losses at ``backward()``, steps at ``optimizer.step()``.

Nothing here waits for a GPU: a loss on the CPU is read at once (that is cheaper than keeping it), one on a device
is kept as a detached tensor and read by the metrics' thread.
"""

from __future__ import annotations

import functools
from time import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlnb.node.log import Metrics

_UNSCALED, _BATCH_SIZE = "_mlnb_unscaled", "_mlnb_batch_size"
_PACE = 1.0
"""Seconds between two values of time per step and samples per second."""


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
        self._put = metrics.put
        self.lonely_ranks = lonely_ranks
        self.weight = 1.0
        self.backwards = 0
        self.samples = 0
        self._counts: dict[int, int] = {}
        self._stepping: set[int] = set()
        self._optimizers = False
        self._last: tuple[float, int, int] | None = None
        metrics.before_flush(self._pace)

    @property
    def steps(self) -> int:
        """Steps of the optimizer that made the most."""
        return max(self._counts.values(), default=0)

    def install(self) -> None:
        """Start watching: wraps ``Tensor.backward`` and ``GradScaler.scale``, hooks optimizers and loaders."""
        self._wrap_backward()
        self._wrap_scaler()
        self._wrap_loader()
        self._wrap_optimizer("__init__")
        self._wrap_optimizer("__setstate__")  # one that came from the session
        register_optimizer_step_post_hook(self._stepped)

    def _wrap_backward(self) -> None:
        original = torch.Tensor.backward

        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            original(tensor, *args, **kwargs)  # type: ignore[no-untyped-call]
            self.backwards += 1
            if self.lonely_ranks > 1:
                self._require_group()
            if tensor.numel() == 1:
                loss = getattr(tensor, _UNSCALED, tensor)
                value = (loss.detach() if loss.is_cuda else loss.item()) * self.weight
                self._put(
                    time(),
                    self._metrics.step + 1 if self._optimizers or self._metrics.step else None,
                    "loss",
                    value,
                )

        backward.__doc__, backward.__wrapped__ = original.__doc__, original  # type: ignore[attr-defined]
        torch.Tensor.backward = backward  # type: ignore[assignment]

    def _require_group(self) -> None:
        if not torch.distributed.is_initialized():
            ranks = self.lonely_ranks
            raise RuntimeError(
                f"{ranks} ranks would train {ranks} independent copies. "
                "Use torch.nn.parallel.DistributedDataParallel (the environment is torchrun's), "
                "or say --parallel none if copies are what you want."
            )
        self.lonely_ranks = 1

    def _wrap_scaler(self) -> None:
        original = torch.amp.GradScaler.scale

        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(scaled, torch.Tensor) and scaled is not outputs:
                setattr(scaled, _UNSCALED, outputs.detach())  # the loss to show is the one before scaling
            return scaled

        torch.amp.GradScaler.scale = scale  # type: ignore[method-assign, assignment]

    def _wrap_loader(self) -> None:
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        following, iterate = _BaseDataLoaderIter.__next__, DataLoader.__iter__

        def counted(iterator: Any) -> Any:
            batch = following(iterator)
            if torch.is_grad_enabled():
                self.samples += getattr(iterator, _BATCH_SIZE, 0)
            return batch

        def noted(loader: Any) -> Any:
            iterator = iterate(loader)
            size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
            setattr(iterator, _BATCH_SIZE, size if isinstance(size, int) else 0)
            return iterator

        _BaseDataLoaderIter.__next__ = counted  # type: ignore[method-assign, assignment]
        DataLoader.__iter__ = noted  # type: ignore[method-assign]

    def _wrap_optimizer(self, name: str) -> None:
        original = getattr(torch.optim.Optimizer, name)

        @functools.wraps(original)
        def noted(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._optimizers = True
            return original(optimizer, *args, **kwargs)

        setattr(torch.optim.Optimizer, name, noted)

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        """Count: a step begins when an optimizer steps that has done so in the step before.

        So of several that take turns the busiest counts, and one that follows another counts on.
        """
        key = id(optimizer)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._stepping and key not in self._stepping:
            self._stepping.add(key)
        else:
            self._stepping = {key}
            self._metrics.step += 1

    def _pace(self) -> None:
        """Put time per step and samples per second, at most once a second, from the metrics' thread."""
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
