"""Objects by identity, which the set does not keep alive."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from mlnb.node.parallel.identity_set import IdentitySet


def test_equal_objects_are_told_apart():
    first, second = torch.zeros(2), torch.zeros(2)
    found = IdentitySet()
    assert not found.add(first)
    assert found.add(first)
    assert first in found
    assert second not in found
    found.clear()
    assert first not in found


def test_an_object_is_not_kept():
    found, value = IdentitySet(), torch.zeros(1)
    reference = weakref.ref(value)
    found.add(value)
    del value
    gc.collect()
    assert reference() is None


def test_what_nothing_can_refer_to_weakly_is_an_error():
    with pytest.raises(TypeError):
        IdentitySet().add([])
