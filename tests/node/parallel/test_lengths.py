"""Lengths that will be wrong on several ranks are named, with the line where they were asked."""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.node.printed import printed

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
X = torch.arange(26.0).reshape(13, 2)
data = TensorDataset(X)
loader = DataLoader(data, batch_size=2)
model = nn.Linear(2, 1); o = torch.optim.SGD(model.parameters(), lr=0.01)
def train(loader):
    seen = 0
    for (a,) in loader: o.zero_grad(); model(a).square().mean().backward(); o.step(); seen += len(a)
    return seen
def evaluate(loader):
    with torch.no_grad(): return sum(len(a) for (a,) in loader)
"""

NOTED = {
    "of a data set, after its loop": (
        "train(loader)\nprint(train(loader) / len(loader.dataset))",
        "len() of a data set",
    ),
    "of a data set, before its loop": ("sizes = {'train': len(data)}\ntrain(loader)", "len() of a data set"),
    "of a loader, under no_grad": (
        "with torch.no_grad():\n    steps = len(loader)\ntrain(loader)",
        "len() of a loader was asked under torch.no_grad()",
    ),
    "of a loader, in evaluation mode": (
        "model.eval()\nsteps = len(loader)\nmodel.train()\ntrain(loader)",
        "len() of a loader was asked under torch.no_grad() or in evaluation mode",
    ),
    "of a loader that has trained, for its evaluation": (
        "train(loader)\nwith torch.no_grad():\n    steps = len(loader)\nevaluate(loader)",
        "len() of a loader was asked with gradients enabled, or after it had trained",
    ),
}


@pytest.mark.parametrize(("code", "note"), NOTED.values(), ids=NOTED.keys())
def test_a_length_that_is_wrong_is_noted_with_its_line(start: Start, code: str, note: str) -> None:
    run = start(HEAD + code, ranks=2).wait(60)
    assert run.result is not None
    (found,) = [one for one in run.result["notes"] if one.startswith("len()")]
    assert found.startswith(note)
    line = next(line for line in code.splitlines() if "len(" in line)
    assert line.strip() in found


def test_lengths_that_are_right_are_not_noted(start: Start) -> None:
    code = """
held_out = DataLoader(TensorDataset(X[:4]), batch_size=2)
steps = 2 * len(loader)
for epoch in range(2):
    model.train(); train(loader); print(epoch, steps, len(loader))
    model.eval(); print(evaluate(held_out) / len(held_out.dataset), len(held_out))
    with torch.no_grad(): print(evaluate(loader), len(loader))
"""
    run = start(HEAD + code, ranks=2).wait(60)
    assert run.result is not None
    assert [one for one in run.result["notes"] if one.startswith("len()")] == []
    assert printed(run, 1).splitlines() == ["0 8 4", "1.0 2", "13 7", "1 8 4", "1.0 2", "13 7"]


def test_the_length_of_a_stream_is_the_number_of_its_steps(start: Start) -> None:
    code = """
class Stream(IterableDataset):
    def __iter__(self): return iter(X)
    def __len__(self): return len(X)
for more in {}, {"drop_last": True}:
    stream = DataLoader(Stream(), batch_size=2, **more); before = len(stream); steps = 0
    for a in stream: o.zero_grad(); model(a).square().mean().backward(); o.step(); steps += 1
    with torch.no_grad(): print(before, steps, len(DataLoader(Stream(), batch_size=2, **more)))
"""
    run = start(HEAD + code, ranks=2).wait(60)
    assert printed(run, 0) == printed(run, 1) == "4 4 7\n3 3 6\n", run.reason
