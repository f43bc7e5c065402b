"""Numbers that a loop reads of a rank's own part of the data are named; those that all ranks read alike are not."""

from __future__ import annotations

import pytest

from tests.conftest import Start

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
X = torch.arange(24.0).reshape(12, 2); y = torch.tensor([0, 0, 1, 1] * 3)
model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)); o = torch.optim.Adam(model.parameters(), lr=0.01)
data = DataLoader(TensorDataset(X, y), batch_size=2)
def step(a, b): loss = nn.functional.cross_entropy(model(a), b); o.zero_grad(); loss.backward(); o.step(); return loss
"""

OWN = {
    "counts of each batch": """
correct = 0
for a, b in data:
    step(a, b)
    correct += (b == 1).sum().item()
""",
    "a count that is read at the end": """
correct = 0
for a, b in data:
    step(a, b)
    correct += (a.sum(1) * b).sum()
print(f"{correct / 12:.2f}")
""",
    "an array": """
import numpy
found = []
for a, b in data:
    step(a, b)
    found.append(a.numpy())
""",
    "a list": """
found = []
for a, b in data:
    step(a, b)
    found += b.tolist()
""",
}
LINES = {
    "counts of each batch": "correct += (b == 1)",
    "a count that is read at the end": "print(f",
    "an array": "found.append(a.numpy())",
    "a list": "found += b.tolist()",
}


def notes(start: Start, loop: str) -> list[str]:
    run = start(HEAD + loop, ranks=2).wait(60)
    assert run.state == "succeeded", run.reason
    assert run.result is not None
    return [note for note in run.result["notes"] if "own part" in note]


@pytest.mark.parametrize("name", OWN)
def test_what_is_read_of_a_ranks_own_part_is_noted_once_with_its_line(start: Start, name: str) -> None:
    (note,) = notes(start, OWN[name])
    assert LINES[name] in note
    assert "1/2 of the samples" in note


def test_what_all_ranks_read_alike_is_not_noted(start: Start) -> None:
    loop = """
total = 0
for epoch in range(2):
    for a, b in data:
        loss = step(a, b); total += loss.item() + loss.detach().numpy() + loss.detach().item()
        total += nn.utils.clip_grad_norm_(model.parameters(), 1.0).item() + model[0].weight.sum().item()
    model.eval(); correct = 0
    with torch.no_grad():
        for a, b in data: correct += (model(a).argmax(1) == b).sum().item()
    model.train()
    print(correct / 12, model[0].weight.detach().sum())
"""
    assert notes(start, loop) == []
