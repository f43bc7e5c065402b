"""A loss that ranks can average is told from one that is a sum over the batch, or that needs the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from mlnb.node.parallel.gradients.loss_kinds import Kind, kind
from tests.conftest import Start

X = torch.rand(6, 3, requires_grad=True)
W = torch.rand(3, 6, requires_grad=True)
Y = torch.rand(6, 3)
CLASSES = torch.tensor([0, 1, 2, 0, 1, -100])


def contrast() -> torch.Tensor:
    z = F.normalize(torch.cat([X, 2 * X]), dim=1)
    return F.cross_entropy(z @ z.T, torch.arange(12))


LOSSES: dict[str, tuple[Kind, Callable[[], torch.Tensor]]] = {
    "squares": (Kind.SUM, lambda: ((X - Y) ** 2).sum()),
    "reduction": (Kind.SUM, lambda: F.mse_loss(X, Y, reduction="sum")),
    "classes": (Kind.SUM, lambda: F.cross_entropy(X, CLASSES.clamp(min=0), reduction="sum")),
    "a variational autoencoder's": (
        Kind.SUM,
        lambda: F.binary_cross_entropy(X, Y, reduction="sum") - 0.5 * torch.sum(1 + X - X.pow(2) - X.exp()),
    ),
    "over the features first": (Kind.SUM, lambda: X.sum(1).sum()),
    "with a penalty": (Kind.SUM, lambda: 0.6 * X.sum(0).sum() + X.mean()),
    "mean": (Kind.MEAN, lambda: ((X - Y) ** 2).mean()),
    "mean of sums": (Kind.MEAN, lambda: ((X - Y) ** 2).sum(1).mean()),
    "mean of roots": (Kind.MEAN, lambda: ((X - Y) ** 2).sum(1).sqrt().mean()),
    "divided by the size": (Kind.MEAN, lambda: ((X - Y) ** 2).sum() / len(X)),
    "multiplied by one over the size": (Kind.MEAN, lambda: (X - Y).square().sum() * (1 / len(X))),
    "default reduction": (Kind.MEAN, lambda: F.cross_entropy(X, Y.softmax(1))),
    "all classes": (Kind.MEAN, lambda: F.cross_entropy(X, CLASSES.clamp(min=0))),
    "a penalty on weights": (Kind.MEAN, lambda: X.mean() + 0.01 * torch.rand(7, 2).requires_grad_().norm()),
    "a sum of means": (Kind.MEAN, lambda: torch.stack([X.mean(), X.square().mean()]).sum()),
    "a layer as wide as the batch": (Kind.MEAN, lambda: (X @ W).square().mean()),
    "a root of a mean": (Kind.WHOLE, lambda: F.mse_loss(X, Y).sqrt()),
    "a ratio of sums": (Kind.WHOLE, lambda: 1 - (2 * (X * Y).sum() + 1) / (X.sum() + Y.sum() + 1)),
    "a norm": (Kind.WHOLE, lambda: torch.norm(X - Y)),
    "some classes": (Kind.WHOLE, lambda: F.cross_entropy(X, CLASSES)),
    "weighted classes": (Kind.WHOLE, lambda: F.cross_entropy(X, CLASSES.clamp(min=0), weight=torch.rand(3))),
    "similarities": (Kind.WHOLE, contrast),
}


@pytest.mark.parametrize("name", LOSSES)
def test_kinds(name: str) -> None:
    expected, loss = LOSSES[name]
    assert kind(loss(), {6}) is expected


def test_a_loss_that_is_no_mean_is_noted_with_its_line(start: Start) -> None:
    script = """
import torch
from torch.utils.data import DataLoader, TensorDataset
model = torch.nn.Linear(2, 1); o = torch.optim.SGD(model.parameters(), lr=0.01)
for (a,) in DataLoader(TensorDataset(torch.rand(12, 2)), batch_size=3):
    loss = model(a).square().sum(); o.zero_grad()
    loss.backward(); o.step()
    loss = model(a).square().mean().sqrt(); o.zero_grad()
    torch.autograd.backward(loss); o.step()
    loss = model(a).square().mean(); o.zero_grad()
    loss.backward(); o.step()
"""
    run = start(script, ranks=2).wait(60)
    assert run.result is not None
    first, second = [one for one in run.result["notes"] if "the loss is" in one]
    assert "line 7 (loss.backward(); o.step()): the loss is a sum" in first
    assert "line 9 (torch.autograd.backward(loss); o.step()): the loss is not a mean" in second
