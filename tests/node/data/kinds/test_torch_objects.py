"""Objects of torch that pickle refuses, or sends without a part of what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations

from tests.node.data.kinds.test_tensors import travel


class Counting(torch.optim.Optimizer):
    def __init__(self, params: Any, inner: Any) -> None:
        super().__init__(params, {"lr": 0.1})
        self.calls = 0
        self.inner = inner
        self.param_groups = inner.param_groups

    def step(self, closure: Any = None) -> Any:
        self.calls += 1
        return self.inner.step(closure)


def count(optimizer: Any, args: Any, kwargs: Any) -> None:
    optimizer.hooked = getattr(optimizer, "hooked", 0) + 1


def trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    return model(torch.ones(2, 4)).detach()


def test_an_optimizer_with_attributes_of_its_own_and_hooks():
    model = torch.nn.Linear(4, 1)
    inner = torch.optim.Adam(model.parameters())
    optimizer = Counting(model.parameters(), inner)
    handle = optimizer.register_step_post_hook(count)
    trained(model, optimizer)
    got_model, got, got_handle = travel((model, optimizer, handle))
    trained(got_model, got)
    assert (got.calls, got.hooked) == (2, 2)
    assert got.inner.param_groups is got.param_groups
    assert got.param_groups[0]["params"][0] is got_model.weight
    got_handle.remove()
    trained(got_model, got)
    assert (got.calls, got.hooked) == (3, 2)


def test_an_optimizer_whose_step_a_scheduler_has_wrapped():
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    got, got_scheduler = travel((optimizer, scheduler))
    assert got_scheduler.optimizer is got
    assert len(travel(optimizer)._params) == 2


@pytest.mark.parametrize("kind", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_parametrized_modules(kind: Any):
    model = torch.nn.Sequential(kind(torch.nn.Linear(4, 3)), torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    got, got_optimizer = travel((model, optimizer))
    assert got_optimizer.param_groups[0]["params"][1] is list(got.parameters())[1]
    torch.testing.assert_close(trained(got, got_optimizer), trained(model, optimizer))
    assert torch.nn.utils.parametrize.is_parametrized(got[0], "weight")
    torch.nn.utils.parametrize.remove_parametrizations(got[0], "weight")
    assert type(got[0]) is torch.nn.Linear


def test_weight_norm_as_it_was_before_parametrizations():
    with pytest.warns(FutureWarning):
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(4, 1))
    got = travel(layer)
    torch.testing.assert_close(
        trained(got, torch.optim.SGD(got.parameters(), lr=0.1)),
        trained(layer, torch.optim.SGD(layer.parameters(), lr=0.1)),
    )


def test_a_scripted_module_shares_its_parameters_with_its_optimizer():
    model = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    got, got_optimizer = travel((model, optimizer))
    torch.testing.assert_close(trained(got, got_optimizer), trained(model, optimizer))
    torch.testing.assert_close(got.state_dict()["1.running_mean"], model.state_dict()["1.running_mean"])
