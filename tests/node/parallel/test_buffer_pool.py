"""Memory of gradients is used again, but never while someone looks at it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mlnb.node.parallel.buffer_pool import Flats

CPU = torch.device("cpu")


@pytest.fixture
def flats() -> Flats:
    if not hasattr(torch._C, "_storage_Use_Count"):
        pytest.skip("this torch does not tell what refers to a storage: nothing is used again")
    return Flats()


def taken(flats: Flats) -> torch.Tensor:
    flats.turn()
    return flats.take(8, torch.float32, CPU)


def test_what_nobody_looks_at_is_used_again(flats: Flats):
    address = taken(flats).data_ptr()
    assert taken(flats).data_ptr() == address


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
def test_what_someone_looks_at_is_not(flats: Flats, look: Callable[[torch.Tensor], object]):
    flat = taken(flats)
    address = flat.data_ptr()
    looked = look(flat)
    del flat
    other = taken(flats)
    assert other.data_ptr() != address
    del looked, other
    assert taken(flats).data_ptr() == address


def test_what_another_process_may_look_at_is_not(flats: Flats):
    flat = taken(flats)
    flat.share_memory_()
    address = flat.data_ptr()
    del flat
    assert taken(flats).data_ptr() != address


def test_size_and_type_count(flats: Flats):
    address = taken(flats).data_ptr()
    flats.turn()
    assert flats.take(8, torch.float64, CPU).dtype == torch.float64
    assert flats.take(9, torch.float32, CPU).numel() == 9
    assert flats.take(8, torch.float32, CPU).data_ptr() == address


def test_what_is_not_used_for_some_turns_is_given_back(flats: Flats):
    taken(flats)
    for _ in range(4):
        flats.turn()
    assert not flats._kept
