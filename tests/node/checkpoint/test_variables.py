"""A resumed run has the values that the interrupted one had in its variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import resume, submit
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

_BEFORE = """
import copy, json, os, signal, time, warnings
from pathlib import Path
import numpy as np
import torch
import mlnb
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("default")
x = torch.arange(64 * 5, dtype=torch.float64).reshape(64, 5) / 1000
model = torch.nn.Linear(5, 1).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)


def step(a, b):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(a), b)
    loss.backward()
    optimizer.step()
    return loss.item()


def pause(epoch, number):
    '''Is interrupted in the first attempt, in the fourth epoch after the fifth batch.'''
    here = Path(os.environ["HERE"])
    if (epoch, number) == (3, 4) and not here.exists():
        here.touch()
        os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        if os.environ["SIGNAL"] == "SIGKILL":
            time.sleep(60)

"""


def interrupted_and_not(start: Any, tmp_path: Path, number: str, body: str, **more: Any) -> tuple[Run, Run]:
    """A run that was interrupted and resumed, and one that wasn't."""
    whole = tmp_path / "whole"
    whole.touch()
    text = _BEFORE + body
    other = start(text, env={"HERE": str(whole), "SIGNAL": number}, **more)
    env = {"HERE": str(tmp_path / "here"), "SIGNAL": number}
    run = start(text, env=env, **more).wait(60)
    assert run.state in ("failed", "lost"), run.logs()
    resume(run.directory, target(), env)
    return run.wait(60), other.wait(60)


def check(start: Any, tmp_path: Path, number: str, body: str, **more: Any) -> str:
    """Both print the same; what it is."""
    run, other = interrupted_and_not(start, tmp_path, number, body, **more)
    assert (run.state, run.attempts) == ("succeeded", 2), run.logs()
    assert other.state == "succeeded", other.logs()
    assert run.logs(0, "out") == other.logs(0, "out")
    return run.logs(0, "out")


INTERRUPTIONS = pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
"""Within an epoch, or at its end."""


@INTERRUPTIONS
def test_what_a_loop_keeps_in_variables_goes_on(start, tmp_path: Path, number: str):
    body = """
history, best, seen = [], float("inf"), {}
kept = history
curve = np.zeros(6)
best_weights = None
average = copy.deepcopy(model)
for epoch in mlnb.epochs(6, model=model, optimizer=optimizer):
    total = count = 0
    for number, (a, b) in enumerate(loader):
        total += step(a, b)
        count += 1
        for mine, theirs in zip(average.parameters(), model.parameters()):
            mine.data.mul_(0.9).add_(theirs.data, alpha=0.1)
        pause(epoch, number)
    history.append((epoch, total / count))
    curve[epoch] = total
    seen.setdefault(count, []).append(epoch)
    if total < best:
        best, best_weights = total, copy.deepcopy(model.state_dict())
print(kept is history, history, best, seen, curve.tolist())
print([p.tolist() for p in average.parameters()], {k: v.tolist() for k, v in best_weights.items()})
"""
    assert check(start, tmp_path, number, body).startswith("True [(0, ")


@INTERRUPTIONS
def test_variables_of_the_functions_that_the_loop_runs_in_go_on(start, tmp_path: Path, number: str):
    body = """
def train_one_epoch(epoch):
    total, counts = 0.0, []
    for number, (a, b) in enumerate(loader):
        total += step(a, b)
        counts.append(len(a))
        pause(epoch, number)
    return total, sum(counts)

def train(count):
    history, best = [], float("inf")
    def note(value):
        nonlocal best
        best = min(best, value)
        history.append(value)
    for epoch in mlnb.epochs(count, model=model, optimizer=optimizer):
        total, seen = train_one_epoch(epoch)
        note((total, seen)[0])
        history.append(seen)
    return history, best

print(train(6))
"""
    check(start, tmp_path, number, body)


@INTERRUPTIONS
def test_objects_stay_the_ones_that_others_refer_to(start, tmp_path: Path, number: str):
    body = """
class Trainer:
    def __init__(self):
        self.history, self.model, self.optimizer = [], model, optimizer
        self.callbacks = [self.history.append]

    def fit(self):
        for epoch in mlnb.epochs(6, model=self.model, optimizer=self.optimizer):
            for number, (a, b) in enumerate(loader):
                value = step(a, b)
                pause(epoch, number)
            for call in self.callbacks:
                call(value)

trainer = Trainer()
mine = trainer.history
trainer.fit()
print(mine is trainer.history, mine, trainer.model is model)
print([p.tolist() for p in model.parameters()])
"""
    assert check(start, tmp_path, number, body).startswith("True [")


@INTERRUPTIONS
def test_a_model_and_an_optimizer_that_the_line_does_not_name_go_on_together(start, tmp_path: Path, number: str):
    body = """
for epoch in mlnb.epochs(6):
    for number, (a, b) in enumerate(loader):
        value = step(a, b)
        pause(epoch, number)
print(value, [p.tolist() for p in model.parameters()])
"""
    check(start, tmp_path, number, body)


def test_ranks_have_their_own(start, tmp_path: Path):
    body = """
import torch.distributed as dist
rank = int(os.environ["RANK"])
mine = []
for epoch in mlnb.epochs(6, model=model, optimizer=optimizer):
    for number, (a, b) in enumerate(loader):
        step(a, b)
    mine.append((rank, epoch))
    pause(epoch, 4 if rank == 0 else 0)
print(rank, mine)
"""
    run, other = interrupted_and_not(start, tmp_path, "SIGKILL", body, ranks=2)
    assert run.state == other.state == "succeeded", run.logs() + other.logs()
    for rank in range(2):
        assert run.logs(rank, "out") == other.logs(rank, "out") == f"{rank} {[(rank, epoch) for epoch in range(6)]}\n"


def test_what_the_loop_leaves_alone_is_what_the_code_makes(start, tmp_path: Path):
    body = """
patience = os.environ["SIGNAL"], Path(os.environ["HERE"]).exists()
large = torch.zeros(10**6)
holder = {"large": large, "count": 0}
for epoch in mlnb.epochs(6, model=model, optimizer=optimizer):
    for number, (a, b) in enumerate(loader):
        step(a, b)
        pause(epoch, number)
    holder["count"] += 1
print(json.dumps([patience, holder["count"], holder["large"] is large]))
"""
    run, _ = interrupted_and_not(start, tmp_path, "SIGKILL", body)
    assert json.loads(run.logs(0, "out")) == [["SIGKILL", True], 6, True]
    assert max(path.stat().st_size for path in run.checkpoints()) < 10**5  # large, which is as it was, isn't in it


def test_what_cannot_be_in_a_checkpoint_is_named(start, tmp_path: Path):
    body = """
numbers, count = None, 0
for epoch in mlnb.epochs(6, model=model, optimizer=optimizer):
    if numbers is None:
        numbers = (i for i in range(100))
    count += next(numbers)
    for number, (a, b) in enumerate(loader):
        step(a, b)
        pause(epoch, number)
print(count)
"""
    run, other = interrupted_and_not(start, tmp_path, "SIGKILL", body)
    assert (run.logs(0, "out"), other.logs(0, "out")) == ("6\n", "15\n")
    assert "these variables are not in the checkpoint and begin again: numbers" in run.logs(0, "err")
    assert "begin again" not in other.logs(0, "err")


def test_other_code_goes_on_with_them_and_with_its_own_settings(start, tmp_path: Path):
    body = """
patience, history = {}, []
for epoch in mlnb.epochs({}, model=model, optimizer=optimizer):
    for number, (a, b) in enumerate(loader):
        step(a, b)
        pause(epoch, number)
    history.append(epoch)
print(patience, history)
"""
    env = {"HERE": str(tmp_path / "here"), "SIGNAL": "SIGKILL"}
    run = start(_BEFORE + body.format(3, 6), env=env).wait(60)
    local, about = target(), {"resume": str(run.directory.checkpoints)}
    task = Task(script=_BEFORE + body.format(5, 8), seed=0)
    offer = local.offer(Resources(cpus=1))
    other = Run(submit(task, {}, local, offer, name="other", env=env, info_fields=about)).wait(60)
    assert other.logs(0, "out") == f"5 {list(range(8))}\n", other.logs()
