"""Hooks into torch that log a training without changes to its code: losses at ``backward()``, steps of optimizers.

Nothing here waits for a GPU: a loss on the CPU is read at once (cheaper than keeping it), a loss on a device is kept as
a detached tensor and read by the metrics thread.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from time import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlnb.node.rank.log import PASSES, Metrics
from mlnb.node.rank.loss_names import LossNames
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import batches_drawn, raw_detach, raw_item

_UNSCALED = "_mlnb_unscaled"
_RATE_INTERVAL = 1.0
"""Seconds between two values of step time and samples per second."""


class _Loop:
    """One loop over a loader, with the number of samples that it has drawn."""

    def __init__(self, iterator: Any, batch_size: int) -> None:
        self.iterator, self._batch_size = iterator, batch_size
        self._counted = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing else refers to the iterator: the loop has ended or was left."""
        return sys.getrefcount(self.iterator) <= 2  # ours, and the argument

    def new_samples(self) -> int:
        """Return the number of samples since the last call."""
        batches = batches_drawn(self.iterator)
        new, self._counted = batches - self._counted, batches
        return int(new * self._batch_size)


class TrainingHooks:
    """Logs losses, steps and rates of the training in this process.

    Parameters
    ----------
    metrics
        gets what is logged.

    Attributes
    ----------
    weight
        weight of this rank's loss in the mean over all ranks.
    backwards, steps
        number of calls of ``backward()``, and of ``step()`` of the optimizer that made the most.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._patches = Patches()
        self.weight = 1.0
        self.backwards = 0
        self.samples = 0
        self._names = LossNames()
        self._adders: dict[str, Callable[[float, int | None, Any], None]] = {}  # by name of the loss
        self._logged_at: dict[str, int] = {}  # the step of the newest value, by name of the loss
        self._is_inside = False  # Tensor.backward calls torch.autograd.backward
        self._step_counts: dict[int, int] = {}  # by id of the optimizer
        self._optimizers: dict[int, weakref.ref[Any]] = {}
        self._joined = 0  # id of the optimizer whose first step counted for the step of another
        self._is_ahead = False  # that was counted again, since it went on alone
        self._stepped_this_step: set[int] = set()
        self._single = 0  # id of the optimizer in ``_stepped_this_step``, if it is the only one
        self._single_since = 0  # the step after which its steps are not in ``_step_counts`` yet
        self._has_optimizers = False
        self._has_scaled_losses = False
        self._loops: list[_Loop] = []
        self._loops_lock = threading.Lock()
        self._pass: tuple[int, int, int] | None = None  # id of the data, backwards before it, number
        self._last_rates: tuple[float, int, int] | None = None  # time, step, samples
        metrics.before_flush(self._log_rates)

    @property
    def steps(self) -> int:
        """Number of steps of the optimizer that made the most."""
        counts = {0: 0, **self._step_counts}
        counts[self._single] = counts.get(self._single, 0) + self._uncounted_steps
        return max(counts.values())

    @property
    def _uncounted_steps(self) -> int:
        return self._metrics.step - self._single_since if self._single else 0

    def install(self) -> None:
        """Wrap ``Tensor.backward``, ``GradScaler.scale`` and ``DataLoader.__iter__``, and hook optimizers."""
        patches = self._patches
        patches.wrap(torch.Tensor, "backward", self._wrap_backward)
        patches.wrap(torch.autograd, "backward", self._wrap_function)
        patches.wrap(torch.autograd, "grad", self._wrap_function)
        patches.wrap(torch.amp.GradScaler, "scale", self._wrap_scale)
        self._wrap_loader(patches)
        patches.wrap(torch.optim.Optimizer, "__init__", self._wrap_init)
        patches.wrap(torch.optim.Optimizer, "__setstate__", self._wrap_init)  # an optimizer from the session
        patches.on_undo(register_optimizer_step_post_hook(self._make_step_hook()).remove)

    def uninstall(self) -> None:
        """Restore torch: nothing is logged, and nothing costs anything, from now on."""
        self._patches.undo()

    def _wrap_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        # Called in each step. Memory accesses dominate its cost, above all right after backward, when the caches hold
        # other data. So it reads the loss before backward, and looks up in advance what it can.
        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            value = self._value(getattr(tensor, _UNSCALED, tensor) if self._has_scaled_losses else tensor)
            name = self._names.name(sys._getframe(1)) if value is not None else ""
            now = time()
            self._is_inside = True
            try:
                if args or kwargs:
                    original(tensor, *args, **kwargs)
                else:
                    original(tensor)
            finally:
                self._is_inside = False
            self._after_backward(name, now, value)

        return backward

    def _wrap_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``torch.autograd.backward`` or ``grad``, which the code may call instead of ``loss.backward()``."""

        def differentiate(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            if self._is_inside or kwargs.get("create_graph") or len(losses) != 1:
                return original(tensors, *args, **kwargs)
            value, name = self._value(losses[0]), self._names.name(sys._getframe(1))
            now = time()
            result = original(tensors, *args, **kwargs)
            if value is not None:
                self._after_backward(name, now, value)
            return result

        return differentiate

    @staticmethod
    def _value(loss: torch.Tensor) -> Any:
        """A loss's value, or on a device the loss itself, so that nothing waits; ``None`` if it is no loss."""
        if not loss.is_cpu:
            return raw_detach(loss) if loss.numel() == 1 else None
        try:
            return raw_item(loss)
        except RuntimeError:  # more than one element
            return None

    def _after_backward(self, name: str, now: float, value: Any) -> None:
        self.backwards += 1
        if value is None:
            return
        add = self._adders.get(name) or self._adder(name)
        step = self._metrics.step
        if step or self._has_optimizers:
            if step and len(self._adders) > 1 and self._logged_at.get(name, 0) < step in self._logged_at.values():
                step -= 1  # another loss of the same iteration has been logged, and its optimizer has stepped
            self._logged_at[name] = step + 1
            add(now, step + 1, value * self.weight)
        else:
            add(now, None, value * self.weight)

    def _adder(self, name: str) -> Callable[[float, int | None, Any], None]:
        self._adders[name] = add = self._metrics.adder(name)
        return add

    def _wrap_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(scaled, torch.Tensor) and scaled is not outputs:
                self._has_scaled_losses = True
                setattr(scaled, _UNSCALED, raw_detach(outputs))  # the loss to log is the one before scaling
            return scaled

        return scale

    def _wrap_loader(self, patches: Patches) -> None:
        from torch.utils.data import DataLoader

        def counted(iterate: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def __iter__(loader: Any) -> Any:  # noqa: N807 - replaces the method
                self._count_samples()  # before an iterator with persistent workers is reset
                iterator = iterate(loader)
                size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
                if torch.is_grad_enabled():
                    self._begin_pass(loader)
                if torch.is_grad_enabled() and isinstance(size, int):
                    with self._loops_lock:  # with persistent workers, all loops have the same iterator
                        others = [loop for loop in self._loops if loop.iterator is not iterator]
                        self._loops = [*others, _Loop(iterator, size)]
                return iterator

            return __iter__

        patches.wrap(DataLoader, "__iter__", counted)

    def _begin_pass(self, loader: Any) -> None:
        """Log that a pass over the training data begins: the data of the first loader that led to ``backward()``."""
        data = id(getattr(loader, "dataset", loader))
        of, since, number = self._pass or (data, self.backwards, 0)
        if self.backwards > since:
            number += data == of
        elif not number:
            of = data  # nothing was trained on yet
        if data == of:
            self._pass = (of, self.backwards, number)
            self._metrics.add(time(), self._metrics.step, PASSES, number)

    def _count_samples(self) -> None:
        """Add up the batches of all loops, from any thread. So no code has to run for each batch."""
        with self._loops_lock:
            over = [loop for loop in self._loops if loop.is_over]  # before they are counted, so that none is missed
            self.samples += sum(loop.new_samples() for loop in self._loops)
            self._loops = [loop for loop in self._loops if loop not in over]

    def _wrap_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._has_optimizers = True
            return original(optimizer, *args, **kwargs)

        return init

    def _make_step_hook(self) -> Callable[[Any, Any, Any], None]:
        metrics = self._metrics

        def stepped(optimizer: Any, _: Any, __: Any) -> None:
            if id(optimizer) == self._single:  # no other steps: each of its steps is a training step
                metrics.step += 1
            else:
                self._count_step(optimizer)

        return stepped

    def _count_step(self, optimizer: Any) -> None:
        """Count a step of one of several optimizers.

        A training step begins when an optimizer steps that has already stepped in the current one. So where several
        take turns, the one with the most steps counts. Where one replaces another, the first step of the new one seems
        to belong to the last of the old one: it is counted once the new one steps again, or at once if the old one is
        gone. If the old one steps again nevertheless, one step is left out.
        """
        key, metrics, counts = id(optimizer), self._metrics, self._step_counts
        counts[self._single] = counts.get(self._single, 0) + self._uncounted_steps
        reference = self._optimizers.get(key)
        is_new = reference is None or reference() is not optimizer
        if is_new:
            self._optimizers[key] = weakref.ref(optimizer)
            counts.pop(key, None)
        counts[key] = counts.get(key, 0) + 1
        current = {other for other in self._stepped_this_step if self._optimizers[other]() is not None}
        if current and key not in current:
            self._stepped_this_step = current | {key}
            self._joined = key if is_new else 0
            self._single = 0
            return
        if self._is_ahead:
            self._is_ahead = False
        else:
            metrics.step += 1
        if self._joined == key:
            metrics.step += 1
            self._joined, self._is_ahead = 0, True
        self._stepped_this_step = {key}
        self._single = key
        self._single_since = metrics.step

    def _log_rates(self) -> None:
        """Log step time and samples per second, at most once a second, from the metrics thread."""
        self._count_samples()
        now, step, samples = time(), self._metrics.step, self.samples
        if self._last_rates is None:
            self._last_rates = (now, step, samples)
            return
        seconds = now - self._last_rates[0]
        steps = step - self._last_rates[1]
        if seconds < _RATE_INTERVAL or not steps:
            return
        self._metrics.add(now, step, "step_time", seconds / steps)
        if samples > self._last_rates[2]:
            self._metrics.add(now, step, "samples_per_s", (samples - self._last_rates[2]) / seconds)
        self._last_rates = (now, step, samples)
