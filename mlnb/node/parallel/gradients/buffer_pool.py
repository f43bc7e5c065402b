"""A pool of flat tensors for gradient averaging: a buffer is reused as soon as nothing else refers to its memory.

On the CPU, freshly allocated memory has to be mapped and cleared by the kernel in each step, which takes as long as
filling it. But averaged gradients are views of these buffers, and a script may keep them: so a buffer is reused only if
nothing but the pool refers to its storage.
"""

from __future__ import annotations

import sys

import torch

from mlnb.node.torch_private import storage_id, storage_use_count

_MAX_UNUSED = 4
"""Exchanges for which an unused buffer is kept: enough for two models that take turns, or accumulated gradients."""


class _Buffer:
    """A tensor of the pool, with the number of references that it has when only the pool refers to it."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.empty(size, dtype=dtype, device=device)
        self.storage = self.tensor.untyped_storage()
        self.last_used = 0
        self._storage_id = storage_id(self.storage)
        self._unused_references = self._references()

    def _references(self) -> tuple[int, int, int]:
        """Count references to the memory (tensors, arrays), and to the Python objects of storage and tensor."""
        count = storage_use_count(self._storage_id) if storage_use_count else -1
        return count, sys.getrefcount(self.storage), sys.getrefcount(self.tensor)

    def fits(self, size: int, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether it is a tensor of shape (size,), of this type, on this device."""
        return (self.tensor.numel(), self.tensor.dtype, self.tensor.device) == (size, dtype, device)

    def is_reusable(self) -> bool:
        """Whether nothing but the pool refers to it, here or in another process (a local variable would count)."""
        return (
            storage_use_count is not None
            and self._references() == self._unused_references
            and not self.tensor.is_shared()
        )


class BufferPool:
    """Allocates flat tensors, and reuses them where torch can count references to a storage."""

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = []
        self._exchange = 0

    def begin_exchange(self) -> None:
        """Begin another exchange of gradients; free the buffers that the last few have not used."""
        self._exchange += 1
        self._buffers = [buffer for buffer in self._buffers if buffer.last_used > self._exchange - _MAX_UNUSED]

    def get(self, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return an uninitialised tensor of shape (size,)."""
        for buffer in self._buffers:
            if buffer.fits(size, dtype, device) and buffer.is_reusable():
                buffer.last_used = self._exchange
                return buffer.tensor
        buffer = _Buffer(size, dtype, device)
        buffer.last_used = self._exchange
        if device.type == "cpu" and storage_use_count is not None:
            self._buffers.append(buffer)
        return buffer.tensor
