"""Sees the training without a change to its code: losses at ``backward()``, steps at ``optimizer.step()``.

Nothing here waits for a GPU: a loss on the CPU is read at once (that is cheaper than keeping it), one on a device is
kept as a detached tensor and read by the metrics' thread.
"""

from __future__ import annotations

from time import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlnb.node.log import Metrics

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
    backwards, steps
        how often ``backward()`` and the busiest optimizer's ``step()`` were called.
    """

    def __init__(self, metrics: Metrics, lonely_ranks: int = 1) -> None:
        self._metrics = metrics
        self._put = metrics.put
        self._lonely_ranks = lonely_ranks
        self.backwards = 0
        self.samples = 0
        self._counts: dict[int, int] = {}
        self._scaled: dict[int, torch.Tensor] = {}
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
        register_optimizer_step_post_hook(self._stepped)

    def _wrap_backward(self) -> None:
        original = torch.Tensor.backward

        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            result = original(tensor, *args, **kwargs)
            self.backwards += 1
            if self._lonely_ranks > 1:
                self._require_group()
            if tensor.numel() == 1:
                loss = self._scaled.pop(id(tensor), tensor) if self._scaled else tensor
                value = loss.detach() if loss.is_cuda else loss.item()
                self._put(time(), self._metrics.step + 1 if self._counts else 0, "loss", value)
            return result

        backward.__doc__, backward.__wrapped__ = original.__doc__, original  # type: ignore[attr-defined]
        torch.Tensor.backward = backward  # type: ignore[assignment]

    def _require_group(self) -> None:
        if not torch.distributed.is_initialized():
            ranks = self._lonely_ranks
            raise RuntimeError(
                f"{ranks} ranks would train {ranks} independent copies. Use torch.nn.parallel.DistributedDataParallel "
                "(the environment is torchrun's), or say --parallel none if copies are what you want."
            )
        self._lonely_ranks = 1

    def _wrap_scaler(self) -> None:
        original = torch.amp.GradScaler.scale

        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(outputs, torch.Tensor):
                self._scaled = {id(scaled): outputs.detach()}  # the loss to show is the one before scaling
            return scaled

        torch.amp.GradScaler.scale = scale  # type: ignore[method-assign, assignment]

    def _wrap_loader(self) -> None:
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        original = _BaseDataLoaderIter.__next__

        def following(iterator: Any) -> Any:
            batch = original(iterator)
            if torch.is_grad_enabled():
                self.samples += self._batch_sizes.get(id(iterator), 0)
            return batch

        original_iter = DataLoader.__iter__

        def iterate(loader: Any) -> Any:
            iterator = original_iter(loader)
            self._batch_sizes[id(iterator)] = loader.batch_size or 0
            return iterator

        self._batch_sizes: dict[int, int] = {}
        _BaseDataLoaderIter.__next__ = following
        DataLoader.__iter__ = iterate  # type: ignore[method-assign]

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        counts = self._counts
        key = id(optimizer)
        counts[key] = counts.get(key, 0) + 1
        count = counts[key] + self._metrics.offset
        if count > self._metrics.step:
            self._metrics.step = count

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
