"""Buffers of gradients are reused, but never while something refers to their memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mlnb.node import torch_private
from mlnb.node.parallel.gradients.buffer_pool import BufferPool

CPU = torch.device("cpu")


@pytest.fixture
def pool() -> BufferPool:
    if not torch_private.storage_use_count:
        pytest.skip("this torch can not count references to a storage: nothing is reused")
    return BufferPool()


def allocated(pool: BufferPool) -> torch.Tensor:
    pool.begin_exchange()
    return pool.get(8, torch.float32, CPU)


def test_a_buffer_without_references_is_reused(pool: BufferPool):
    address = allocated(pool).data_ptr()
    assert allocated(pool).data_ptr() == address


@pytest.mark.parametrize(
    "look",
    [
        lambda flat: flat[2:4],
        lambda flat: flat[2:4].numpy(),
        lambda flat: flat[2:4].untyped_storage(),
        lambda flat: flat[2:4]._base,
        torch.Tensor.detach,
    ],
    ids=["view", "array", "storage", "base", "detached"],
)
def test_a_buffer_with_references_is_not(pool: BufferPool, look: Callable[[torch.Tensor], object]):
    flat = allocated(pool)
    address = flat.data_ptr()
    looked = look(flat)
    del flat
    other = allocated(pool)
    assert other.data_ptr() != address
    del looked, other
    assert allocated(pool).data_ptr() == address


def test_a_buffer_shared_with_another_process_is_not(pool: BufferPool):
    flat = allocated(pool)
    flat.share_memory_()
    address = flat.data_ptr()
    del flat
    assert allocated(pool).data_ptr() != address


def test_size_and_type_count(pool: BufferPool):
    address = allocated(pool).data_ptr()
    pool.begin_exchange()
    assert pool.get(8, torch.float64, CPU).dtype == torch.float64
    assert pool.get(9, torch.float32, CPU).numel() == 9
    assert pool.get(8, torch.float32, CPU).data_ptr() == address


def test_a_buffer_on_another_device_is_not_reused(pool: BufferPool):
    allocated(pool)
    pool.begin_exchange()
    assert pool.get(8, torch.float32, torch.device("meta")).device.type == "meta"


def test_a_buffer_that_some_exchanges_did_not_use_is_freed(pool: BufferPool):
    allocated(pool)
    for _ in range(4):
        pool.begin_exchange()
    assert not pool._buffers
