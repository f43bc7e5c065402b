"""Ranks that go apart are stopped where they do, with an error that says so; what keeps them together goes on."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Start
from tests.node.printed import printed

HEAD = """
import os, sys, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
rank = int(os.environ["RANK"])
X = torch.randn(37, 4); y = X.sum(1, keepdim=True) + torch.arange(37)[:, None] / 20
def net(): return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
def loader(**more): return DataLoader(TensorDataset(X, y), batch_size=4, **more)
def loss_of(model, a, b): return (model(a) - b).square().mean()
model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
def step(a, b): loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
"""

APART = {
    "a batch left out for its own data": (
        """
X[9] = float("nan")
for a, b in loader():
    if torch.isnan(a).any(): continue
    loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
""",
        r"gone apart: rank 0 is at the next batch in .*, line 14 .*, rank 1 at backward\(\) in .*, line 16 \(loss = ",
    ),
    "a step left out": (
        """
for a, b in loader():
    loss = loss_of(model, a, b); o.zero_grad(); loss.backward()
    if a.mean() > 0: o.step()
""",
        r"gone apart: at backward\(\) .* rank 0 has made \d steps of optimizers, rank 1 \d",
    ),
    "a learning rate by a rank's own data": (
        """
for a, b in loader():
    o.param_groups[0]["lr"] = 0.1 + 0.01 * a.mean().item(); step(a, b)
""",
        r"gone apart: at backward\(\) .* the learning rate is 0\.\d+ on rank 0, 0\.\d+ on rank 1",
    ),
    "other lines": (
        """
for a, b in loader():
    loss = loss_of(model, a, b); o.zero_grad()
    if a.mean() > 0:
        (2 * loss).backward()
    else:
        loss.backward()
    o.step()
""",
        r"gone apart: rank 0 is at backward\(\) in .*loss.*\.backward\(\).*, rank 1 at backward\(\) in .*loss",
    ),
    "a loss that one rank reads": (
        """
for a, b in loader():
    loss = loss_of(model, a, b)
    if rank == 0: print(loss.item())
    o.zero_grad(); loss.backward(); o.step()
""",
        r"rank 0 is at the reading of a loss in .*, line 15 .*rank 1 at backward\(\) in .*, line 16",
    ),
    "a rank that ends early": (
        """
for turn, (a, b) in enumerate(loader()):
    step(a, b)
    if rank == 1 and turn == 2: sys.exit(0)
""",
        r"rank 0 is at backward\(\) in .*, rank 1 at the end of its program",
    ),
    "a rank that trains nothing": (
        """
if rank == 0: sys.exit(0)
for a, b in loader(): step(a, b)
""",
        r"rank 0 is at the end of its program, rank 1 at the start of the training in .*, line 14 \(for a, b in loader",
    ),
    "values changed on one rank": (
        """
for epoch in range(2):
    for a, b in loader(): step(a, b)
    with torch.no_grad(): model[0].bias.add_(rank)
""",
        r"gone apart: the values of 0\.bias, float32 of shape \(8,\) differ between rank 0 and rank 1",
    ),
    "other models": (
        """
model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1 + rank)); o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(): step(a, b)
""",
        r"models differ between the ranks: rank 0 has 1\.weight.*\(1, 8\); rank 1 has 1\.weight.*\(2, 8\)",
    ),
    "other weights of a model that no optimizer has": (
        """
def train():
    torch.manual_seed(rank); model = net()
    for a, b in loader():
        loss_of(model, a, b).backward()
        for p in model.parameters(): p.data -= 0.1 * p.grad; p.grad = None
train()
""",
        r"the ranks began with different values of [02]\.(weight|bias)",
    ),
    "gradients that the code sets itself": (
        """
for a, b in loader():
    loss = loss_of(model, a, b); o.zero_grad(); loss.backward()
    for p in model.parameters(): p.grad = p.grad + a.mean()
    o.step()
""",
        r"gone apart: the values of 0\.weight, .* differ between rank 0 and rank 1 at batch 2",
    ),
    "what vmap returns for each sample": (
        """
from torch.func import functional_call, grad, vmap
weights = {name: p.detach() for name, p in model.named_parameters()}
def loss_of_one(weights, a, b): return (functional_call(model, weights, a) - b).square().sum()
for a, b in loader():
    each = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(weights, a, b)
    weights = {name: w - 0.1 * each[name].mean(0) for name, w in weights.items()}
""",
        r"gone apart: torch\.func in .*, line 17 \(each = vmap.* gets a tensor of shape .* same on all ranks at first",
    ),
    "what vjp returns": (
        """
from torch.func import functional_call, vjp
weights = {name: p.detach() for name, p in model.named_parameters()}
for a, b in loader():
    errors, pull = vjp(lambda weights: functional_call(model, weights, a) - b, weights)
    gradients, = pull(errors / len(a))
    weights = {name: w - 0.1 * gradients[name] for name, w in weights.items()}
""",
        r"gone apart: torch\.func in .*, line 16 \(errors, pull = vjp",
    ),
    "gradients of each sample, given to an optimizer": (
        """
from torch.func import functional_call, grad, vmap
def loss_of_one(weights, a, b): return (functional_call(model, weights, a) - b).square().sum()
for a, b in loader():
    each = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(dict(model.named_parameters()), a, b)
    for name, p in model.named_parameters(): p.grad = each[name].detach().mean(0)
    o.step()
""",
        r"gone apart: .* (differ between rank 0 and rank 1 at batch 2|same on all ranks at first)",
    ),
    "a data set of its own": (
        """
data = TensorDataset(X[4 * rank:], y[4 * rank:])
for a, b in DataLoader(data, batch_size=4): step(a, b)
""",
        r"the data differ between the ranks: rank 0 has 37 samples in 10 batches, rank 1 has 33 in 9",
    ),
    "two models that two threads train": (
        """
import threading
def work():
    model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
    for a, b in loader(): loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
        r"two threads train at once: .*line 16",
    ),
    "the last batch of the last loop": (
        """
for turn, (a, b) in enumerate(loader()):
    step(a, b)
    if turn == 4:
        with torch.no_grad(): model[0].bias.add_(rank)
""",
        r"gone apart: the values of 0\.bias, .* at batch 5",
    ),
    "an error in a backward that one rank ignores": (
        """
for turn, (a, b) in enumerate(loader()):
    try:
        loss = loss_of(model, a, b); o.zero_grad()
        if rank == 1 and turn == 1: loss.register_hook(lambda _: 1 / 0)
        loss.backward(); o.step()
    except ArithmeticError: pass
""",
        r"rank 1 failed at backward\(\) in .*ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("code", "reason"), APART.values(), ids=APART.keys())
def test_ranks_that_go_apart_are_stopped_and_the_lines_are_named(start: Start, code: str, reason: str) -> None:
    run = start(HEAD + code, ranks=2).wait(90)
    assert run.state == "failed", run.reason
    assert re.search(reason, run.reason), run.reason
    assert "gloo" not in run.reason.lower()


TOGETHER = """
class Trainer:  # not the one of a library
    def fit(self):
        for a, b in loader(): step(a, b)
try:
    import accelerate, lightning
except ImportError:
    pass
assert not torch.distributed.is_initialized()
Trainer().fit()

for a, b in loader():
    loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
    if rank == 0: loss.item()  # known from the backward

torch.manual_seed(rank); model = net(); o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(): step(a, b)
print("values of rank 0", model[0].weight.sum().item())

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(): step(a, b)
print("statistics", model[1].running_mean.tolist(), model[1].running_var.tolist())

schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0)
for epoch in range(4):
    schedule.step(rank - epoch / 10 if epoch < 2 else 1.0)
    print("rate", o.param_groups[0]["lr"])

import torch.distributed as dist
dist.init_process_group("gloo")
print("left alone", sum(1 for _ in loader()))
"""


def test_what_ranks_have_in_common_they_do_alike(start: Start) -> None:
    run = start(HEAD + TOGETHER, ranks=2, seed=0).wait(90)
    assert run.state == "succeeded", run.reason
    assert printed(run, 0) == printed(run, 1)
    assert "left alone 10" in printed(run, 0)
    assert run.result is not None
    notes = "\n".join(run.result["notes"])
    assert "the ranks began with different values of" in notes
    assert "batch norm normalises the whole batch" in notes
    assert "the code has made a process group of its own" in notes
