"""What code reads of a loss is its mean over all ranks, so that all ranks decide alike and log the same.

A loss is a scalar that leads to parameters. The mean of one on which ``backward()`` was called is known already, since
it was sent together with the gradients. Reading another is a collective: all ranks must come to it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch

from mlnb.node.parallel.together.rank_group import RankGroup
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import is_transformed, raw_data, raw_detach, raw_item

_NUMBERS = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__")
"""Methods of tensors that return a number of Python."""

_COPIES = ("detach", "cpu", "numpy")
"""Methods that return the value as a tensor or array of its own."""

_FEW = 10_000
"""Values of an array above which it is not added up."""

_COMPARISONS = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "lt", "le", "gt", "ge", "isnan", "isinf")
_FUNCTIONS = ("isnan", "isinf", "isfinite", "lt", "le", "gt", "ge")


class LossReads:
    """Replaces what code reads of a loss by its mean over the ranks."""

    def __init__(self, weight: Callable[[], float]) -> None:
        self._weight = weight
        self._means: dict[int, tuple[weakref.ref[torch.Tensor], torch.Tensor]] = {}
        self._sources: dict[int, tuple[weakref.ref[torch.Tensor], weakref.ref[torch.Tensor]]] = {}
        self._thread = threading.get_ident()
        self._local = 0  # blocks in which reads are of this rank's own values
        self.group: RankGroup | None = None
        """With which to communicate, once the data of a loop is sharded."""

    def install(self, patches: Patches) -> None:
        """Replace the methods of tensors that read values."""
        data = raw_data()
        for name in _NUMBERS:
            self._replace(patches, torch.Tensor, name, lambda original: self._number(original))
        for name in _COPIES:
            self._replace(patches, torch.Tensor, name, partial(self._copy, is_read=name == "numpy"))
        for name in _COMPARISONS:
            self._replace(patches, torch.Tensor, name, lambda original: self._comparison(original))
        for name in _FUNCTIONS:
            patches.wrap(torch, name, self._comparison)
        patches.override(torch.Tensor, "data", property(self._data(data), data.__set__))
        patches.wrap(torch.amp.GradScaler, "scale", self._scale)

    def _replace(self, patches: Patches, owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
        patches.override(owner, name, wrapper(getattr(owner, name)))

    # Which tensors are losses, and what their means are

    def begin_local(self) -> None:
        """From now on reads are of this rank's own values, as within a backward."""
        self._local += 1

    def end_local(self) -> None:
        """End what :meth:`begin_local` began."""
        self._local -= 1

    def source(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss that was scaled into ``loss``, else ``loss`` itself."""
        found = self._sources.get(id(loss))
        source = found[1]() if found is not None and found[0]() is loss else None
        return loss if source is None else source

    def set_mean(self, loss: torch.Tensor, mean: torch.Tensor) -> None:
        """Let ``mean`` be what is read of ``loss``."""
        key = id(loss)
        self._means[key] = (weakref.ref(loss, lambda _: self._means.pop(key, None)), mean)

    def write_means(self) -> None:
        """Give losses that are still there their means as values, for whoever reads them without these methods."""
        for reference, mean in list(self._means.values()):
            loss = reference()
            if loss is not None:
                with torch.no_grad():
                    raw_detach(loss).copy_(mean)

    def _mean(self, loss: torch.Tensor, frame: FrameType) -> torch.Tensor | None:
        """The mean over all ranks; ``None`` if the tensor is no loss, or not now."""
        group = self.group
        if group is None or self._local or loss.grad_fn is None or loss.dim():
            return None
        found = self._means.get(id(loss))
        if found is not None and found[0]() is loss:
            return found[1]
        if threading.get_ident() != self._thread or not loss.is_floating_point() or _is_transformed(loss):
            return None
        group.meet(group.call_site("the reading of a loss", frame))
        own = torch.tensor([raw_item(loss), self._weight()], dtype=torch.float64)
        parts = [part.tolist() for part in group.gather_tensor(own)]
        values = [value for value, _ in parts]
        total = values[0]
        if any(value != total for value in values):
            total = sum(value * weight for value, weight in parts if weight) / group.world
        mean = torch.tensor(total, dtype=loss.dtype, device=loss.device)
        self.set_mean(loss, mean)
        return mean

    # The replacements

    def _number(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def number(tensor: torch.Tensor) -> Any:
            if tensor.requires_grad:
                mean = self._mean(tensor, sys._getframe(1))
                return original(tensor if mean is None else mean)
            value = original(tensor)
            if self.group is not None:
                self._note_read(value, self.group, sys._getframe(1))
            return value

        return number

    def _note_read(self, value: Any, group: RankGroup, frame: FrameType) -> None:
        """Note what was read of a tensor without a graph: ranks compare it when they meet."""
        if self._local or threading.get_ident() != self._thread:
            return
        if isinstance(value, list):
            value = sum(value) if len(value) < _FEW and all(type(one) in (int, float, bool) for one in value) else None
        elif not isinstance(value, (int, float)):  # an array
            value = value.sum().item() if value.size < _FEW and value.dtype.kind in "biuf" else None
        if value is not None:
            group.reads.add(value, frame)

    def _copy(self, original: Callable[..., Any], is_read: bool) -> Callable[..., Any]:
        def copy(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            mean = self._mean(tensor, sys._getframe(1)) if tensor.requires_grad else None
            if mean is None:
                value = original(tensor, *args, **kwargs)
                if is_read and self.group is not None:
                    self._note_read(value, self.group, sys._getframe(1))
                return value
            return original(raw_detach(mean).clone(), *args, **kwargs)

        return copy

    def _data(self, original: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        get = original.__get__

        def data(tensor: torch.Tensor) -> torch.Tensor:
            mean = self._mean(tensor, sys._getframe(1)) if tensor.requires_grad else None
            value: torch.Tensor = get(tensor) if mean is None else raw_detach(mean).clone()
            return value

        return data

    def _comparison(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compare(*tensors: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            means = [self._mean(one, frame) if _requires_grad(one) else None for one in tensors]
            given = [one if mean is None else mean for one, mean in zip(tensors, means, strict=True)]
            return original(*given, **kwargs)

        return compare

    def _scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(scaled, torch.Tensor) and isinstance(outputs, torch.Tensor) and scaled is not outputs:
                key = id(scaled)
                reference = weakref.ref(scaled, lambda _: self._sources.pop(key, None))
                self._sources[key] = (reference, weakref.ref(outputs))
            return scaled

        return scale


def _requires_grad(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _is_transformed(tensor: torch.Tensor) -> bool:
    """Whether a transformation of ``torch.func`` or a tracer works with ``tensor``: it has no value then."""
    return type(tensor) is not torch.Tensor or is_transformed(tensor)
