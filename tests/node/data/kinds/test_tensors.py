"""Tensors travel with their gradients, hooks and attributes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.parameter import UninitializedParameter

from mlnb.node.data import objects, storages
from mlnb.node.data.kinds import tensors


class Memory:
    """The large data of a stream, in memory."""

    def storage(self, storage: Any, place: Any) -> Any:
        if isinstance(storage, tuple):
            return torch.frombuffer(bytearray(storage[1]), dtype=torch.uint8).untyped_storage()
        return ("bytes", bytes(storages.view_of(storages.as_bytes(storage))))

    def buffer(self, view: Any) -> Any:
        return bytearray(view[1]) if isinstance(view, tuple) else ("bytes", bytes(view))


def travel(value: Any) -> Any:
    memory: Any = Memory()
    stream = objects.dump(value, memory, objects.Labels(), prefix="")
    return objects.load(stream, memory, objects.Labels(), {})


def double(grad: torch.Tensor) -> torch.Tensor:
    return grad * 2


def note(tensor: torch.Tensor) -> None:
    tensor.seen = getattr(tensor, "seen", 0) + 1  # type: ignore[attr-defined]


def test_a_gradient():
    weight = torch.nn.Parameter(torch.ones(3))
    weight.square().sum().backward()
    got = travel([weight, weight.grad])
    assert torch.equal(got[0].grad, torch.full((3,), 2.0))
    assert got[0].grad is got[1]
    assert type(got[0]) is torch.nn.Parameter
    plain = torch.ones(2, requires_grad=True)
    plain.sum().backward()
    assert torch.equal(travel(plain).grad, torch.ones(2))


def test_hooks_act_and_their_handles_remove_them():
    weight = torch.nn.Parameter(torch.ones(3))
    handle = weight.register_hook(double)
    weight.register_post_accumulate_grad_hook(note)
    got, got_handle = travel((weight, handle))
    got.sum().backward()
    assert torch.equal(got.grad, torch.full((3,), 2.0))
    assert got.seen == 1
    got_handle.remove()
    got.grad = None
    got.sum().backward()
    assert torch.equal(got.grad, torch.ones(3))


def test_a_later_hook_does_not_replace_one_that_was_sent(monkeypatch: pytest.MonkeyPatch):
    weight = torch.nn.Parameter(torch.ones(3))
    weight.register_hook(double)
    numbers = torch.utils.hooks.RemovableHandle
    monkeypatch.setattr(numbers, "next_id", 0)  # as in a new process
    got = travel(weight)
    got.register_hook(double)
    got.sum().backward()
    assert torch.equal(got.grad, torch.full((3,), 4.0))


def test_attributes_even_those_that_lead_back():
    layer = torch.nn.Linear(2, 1)
    layer.weight.layer = layer  # type: ignore[assignment]
    layer.weight.decay = False  # type: ignore[assignment]
    tensor = torch.ones(2)
    tensor.names_ = ["a"]  # type: ignore[attr-defined]
    got, got_tensor = travel((layer, tensor))
    assert got.weight.layer is got
    assert got.weight.decay is False
    assert got_tensor.names_ == ["a"]


def test_a_computed_tensor_says_that_its_graph_is_elsewhere():
    weight = torch.ones(3, requires_grad=True)
    hidden = weight * 2
    hidden.retain_grad()
    hidden.sum().backward()
    got = travel(hidden)
    assert torch.equal(got, hidden)
    assert got.requires_grad
    assert not got.is_leaf
    assert torch.equal(got.grad, torch.ones(3))
    with pytest.raises(RuntimeError, match="computed in another process"):
        (got * 3).sum().backward()
    got += 1
    assert travel(got).tolist() == [3.0, 3.0, 3.0]


def test_parameters_without_a_shape_keep_their_type():
    got = travel(UninitializedParameter(dtype=torch.float64))
    assert got.data.dtype == torch.float64
    assert travel(torch.empty(3, device="meta")).shape == (3,)


def test_a_live_tensor_takes_over_what_came_back():
    live, new = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    live.sum().backward()
    grad = live.grad
    live.old = 1  # type: ignore[assignment]
    (new * 5).sum().backward()
    new.register_hook(double)
    new.tag = "x"  # type: ignore[assignment]
    tensors.take_over(live, new)
    assert live.grad is grad
    assert torch.equal(live.grad, torch.full((3,), 5.0))
    assert vars(live) == {"tag": "x"}
    live.sum().backward()
    assert torch.equal(live.grad, torch.full((3,), 7.0))
    new.grad = None
    tensors.take_over(live, new)
    assert live.grad is None


def test_hooks_of_mlnb_stay_behind():
    weight = torch.nn.Parameter(torch.ones(3))

    def own(grad: torch.Tensor) -> torch.Tensor:
        return grad

    own.__module__ = "mlnb.node.anything"
    weight.register_hook(own)
    assert not tensors.tensor_hooks(travel(weight))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16, torch.bfloat16])
def test_tensors_of_the_newer_types(dtype: torch.dtype):
    tensor = torch.ones(4).to(dtype)
    got, view = travel((tensor, tensor[1:]))
    assert got.dtype == dtype
    assert got.float().tolist() == [1] * 4
    assert view.untyped_storage().data_ptr() == got.untyped_storage().data_ptr()
