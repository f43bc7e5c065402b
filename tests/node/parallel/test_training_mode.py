"""Models that are evaluated see all data on every rank, whatever the gradient mode."""

from __future__ import annotations

import pytest

from tests.conftest import Start

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
X = torch.arange(24.0).reshape(12, 2)
def loader(): return DataLoader(TensorDataset(X), batch_size=2)
def net(): return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), nn.Linear(2, 1))
def seen(data): return sum(len(x) for (x,) in data)
def train(model, data):
    for (x,) in data:
        o.zero_grad(); model(x).mean().backward(); o.step()
"""

LOOPS = {
    "phases": """
model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
for phase in "train", "val":
    model.train(phase == "train"); data = loader()
    if phase == "train": train(model, data)
    else: print(len(data), seen(data), len(data))
""",
    "within a function, before any step": """
def main():
    global o
    model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
    model.eval(); print(len(loader()), seen(loader()), 6)
    model.train(); train(model, loader())
main()
""",
    "without an optimizer": """
model = net(); model.eval(); data = loader(); print(len(data), seen(data), len(data))
""",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_a_loop_in_evaluation_mode_is_not_sharded(start: Start, loop: str):
    run = start(HEAD + loop, ranks=2).wait(60)
    assert [run.logs(rank, "out") for rank in (0, 1)] == ["6 12 6\n"] * 2, run.result


TRAINED = {
    "a frozen teacher": "teacher = net().eval(); model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)",
    "a student in a function's variable": """
teacher = net().eval()
def prepare():
    global o, run
    student = net(); o = torch.optim.SGD(student.parameters(), lr=0.1)
    run = lambda: train(student, data)
prepare()
""",
    "frozen statistics": "model = net(); model[1].eval(); o = torch.optim.SGD(model.parameters(), lr=0.1)",
    "only a head": "model = net().eval(); model[2].train(); o = torch.optim.SGD(model[2].parameters(), lr=0.1)",
}


@pytest.mark.parametrize("models", TRAINED.values(), ids=TRAINED.keys())
def test_a_loop_with_a_model_in_training_mode_is_sharded(start: Start, models: str):
    script = f"{HEAD}{models}\ndata = loader(); before = len(data)\n"
    script += "globals().get('run', lambda: train(model, data))()\nprint(before, len(data))\n"
    run = start(script, ranks=2).wait(60)
    assert [run.logs(rank, "out") for rank in (0, 1)] == ["3 3\n"] * 2, run.result


EVALUATED = """
model = net().eval(); o = torch.optim.SGD(model.parameters(), lr=0.1)
for (x,) in loader():
    o.zero_grad(); loss = (model(x) - 1).square().mean() / 1000
    loss.backward(); o.step()
print([p.tolist() for p in model.parameters()])
"""


def test_training_in_evaluation_mode_is_that_of_one_process_and_said(start: Start):
    alone, together = (start(HEAD + EVALUATED, ranks=ranks).wait(60) for ranks in (1, 2))
    assert alone.logs(0, "out") == together.logs(0, "out") == together.logs(1, "out")
    assert together.result is not None
    (note,) = [one for one in together.result["notes"] if "not sharded" in one]
    assert "line 16 (loss.backward(); o.step())" in note
    assert "all models that are trained are in evaluation mode" in note
    assert "every rank trains on the same batches" in note


STEPS = """
model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
def train_step(x): model.train(); o.zero_grad(); model(x).mean().backward(); o.step(); return len(x)
def evaluation_step(x):
    model.eval()
    with torch.no_grad(): return len(model(x))
def run(data, step):
    count, batches = len(data), iter(data)
    return sum(step(*next(batches)) for _ in range(count))
training, held_out = loader(), loader()
for epoch in range(3): print(run(training, train_step), run(held_out, evaluation_step))
"""


def test_loops_that_set_the_mode_in_each_step_are_known_by_what_they_do(start: Start):
    run = start(HEAD + STEPS, ranks=2)
    run.wait(60)
    assert [run.logs(rank, "out") for rank in (0, 1)] == ["6 12\n6 12\n6 12\n"] * 2, run.result
    assert run.result is not None
    assert not any("nothing was trained" in note for note in run.result["notes"])
