"""Batch norm of several ranks normalises what one process would."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import Start

HEAD = """
import json, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
X = torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(5))
y = X.mean((1, 2, 3)) + torch.arange(20) / 20
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1))
o = torch.optim.SGD(model.parameters(), lr=0.1)
data = DataLoader(TensorDataset(X, y), batch_size=BATCH)
"""

LOOPS = {
    "float32": """
for a, b in data:
    loss = (model(a)[:, 0] - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
    "bfloat16": """
for a, b in data:
    with torch.autocast("cpu", dtype=torch.bfloat16): out = model(a)[:, 0]
    loss = (out.float() - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
    "frozen, and in a second forward pass without gradients": """
model[1].eval()
for turn, (a, b) in enumerate(data):
    if turn == 1: model[1].train()
    with torch.no_grad(): model(a)
    loss = (model(a)[:, 0] - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
    "of batches that were kept": """
for epoch in range(2):
    for a, b in list(data):
        loss = (model(a)[:, 0] - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
    "of the same data on all ranks, after a loop": """
for a, b in data:
    loss = (model(a)[:, 0] - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
loss = (model(X)[:, 0] - y).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
}

END = "print(json.dumps([v.flatten().tolist() for v in model.state_dict().values()]))\n"


@pytest.mark.parametrize("name", LOOPS)
def test_weights_and_statistics_are_those_of_one_process(start: Start, name: str) -> None:
    values = []
    for ranks in (1, 2):
        run = start(HEAD.replace("BATCH", str(8 // ranks)) + LOOPS[name] + END, ranks=ranks).wait(60)
        assert run.state == "succeeded", run.reason
        values += [np.concatenate(json.loads(run.logs(rank, "out"))) for rank in range(ranks)]
    alone, first, second = values
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=0, atol=2e-2 if name == "bfloat16" else 1e-5)
    assert run.result is not None
    assert any("batch norm normalises the whole batch" in note for note in run.result["notes"])


def test_batch_norm_in_a_transformation_is_refused_with_its_line(start: Start) -> None:
    loop = """
model[1] = nn.BatchNorm2d(4, track_running_stats=False)
weights = dict(model.named_parameters())
def loss_of(weights, a, b): return (torch.func.functional_call(model, weights, a)[:, 0] - b).square().mean()
for a, b in data:
    gradients = torch.func.grad(loss_of)(weights, a, b)
"""
    run = start(HEAD.replace("BATCH", "4") + loop, ranks=2).wait(60)
    assert run.state == "failed"
    assert "batch norm in" in run.reason
    assert "line 13" in run.reason
    assert "is within a transformation of torch.func" in run.reason
