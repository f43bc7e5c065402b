"""Flat tensors that gradients travel in, used again as soon as nobody looks at them.

On the CPU, memory that is fresh in each step has to be mapped and cleared by the kernel in each step, which takes as
long as filling it. But what was averaged stays visible as gradients, and a script may keep those: so a tensor is used
again only if nothing refers to its storage any more.
"""

from __future__ import annotations

import sys

import torch

from mlnb.node.torch_private import storage_id, storage_use_count

_KEPT = 4
"""Exchanges that a tensor is kept for: two models that take turns, accumulated gradients."""


class _Flat:
    """One of them, made here so that at first nobody else looks at it."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.empty(size, dtype=dtype, device=device)
        self.storage = self.tensor.untyped_storage()
        self._id = storage_id(self.storage)
        self.used = 0
        self._alone = self._looks()

    def _looks(self) -> tuple[int, int, int]:
        """What refers to it: tensors and arrays, and Python's names for the storage and the tensor themselves."""
        count = storage_use_count(self._id) if storage_use_count else -1
        return count, sys.getrefcount(self.storage), sys.getrefcount(self.tensor)

    def free(self) -> bool:
        """Whether nobody looks at it, here or in another process."""
        return storage_use_count is not None and self._looks() == self._alone and not self.tensor.is_shared()


class Flats:
    """Where flat tensors come from."""

    def __init__(self) -> None:
        self._kept: list[_Flat] = []
        self._turn = 0

    def turn(self) -> None:
        """Another exchange begins; what was not used for some of them is given back."""
        self._turn += 1
        self._kept = [one for one in self._kept if one.used > self._turn - _KEPT]

    def take(self, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """A tensor of that size, with anything in it."""
        for one in self._kept:
            if one.tensor.numel() == size and one.tensor.dtype == dtype and one.free():
                one.used = self._turn
                return one.tensor
        one = _Flat(size, dtype, device)
        one.used = self._turn
        if device.type == "cpu" and storage_use_count is not None:
            self._kept.append(one)
        return one.tensor
