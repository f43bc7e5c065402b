"""A run that has to end in the middle of an epoch goes on at the next batch, as if nothing had been."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from mlnb.api import Run
from mlnb.api.submit.submit import resume, submit
from mlnb.node.checkpoint import files as checkpoint_files
from mlnb.node.process.identity import send_signal
from mlnb.rundir import read_lines
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.waiting import until

EPOCHS, BATCHES, AT = 4, 12, 5

_HEAD = """
import hashlib, os, random, time
import numpy as np
import torch
import mlnb
from mlnb.node.rank import stop
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

def pause(epoch, number):
    # the first attempt of a run that is to be interrupted waits for that in the middle of an epoch
    if epoch == 2 and str(number) == os.environ.get("INTERRUPT"):
        open(os.environ["MLNB_RUN"] + "/waits-" + os.environ.get("RANK", "0"), "w").close()
        while not stop.stop_requested():
            time.sleep(0.002)

x = torch.arange(96 * 5, dtype=torch.float64).reshape(96, 5) / 1000
data = TensorDataset(x, x.sum(1, keepdim=True))
model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1)).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

def train(a, b):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(a), b) * (1 + random.random() + np.random.rand())
    loss.backward()
    optimizer.step()
    scheduler.step()
    return loss
"""

_EPOCHS = f"""
for epoch in mlnb.epochs({EPOCHS}, model=model, optimizer=optimizer, scheduler=scheduler):
"""

_TAIL = """
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""

_PLAIN = """
    for number, (a, b) in enumerate(loader):
        pause(epoch, number)
        train(a, b)
        mlnb.log(lr=scheduler.get_last_lr()[0])
"""


def script(before: str, body: str) -> str:
    return _HEAD + before + _EPOCHS + body + _TAIL


def plain(loader: str = "DataLoader(data, batch_size=8, shuffle=True)") -> str:
    return script(f"loader = {loader}", _PLAIN)


def send(run: Run, number: signal.Signals) -> None:
    """Send a signal to the node program of the newest attempt once all ranks wait for it."""
    for rank in range(run.task.resources.world_size):
        waits = run.dir / f"waits-{rank}"
        until(waits.exists)
        waits.unlink()
    events = read_lines(run.directory.attempts()[-1].events(0))
    started = next(event for event in events if event["event"] == "started")
    assert send_signal(started["pid"], started["identity"], number)


def interrupted(start, text: str, number: signal.Signals = signal.SIGTERM, **more) -> Run:
    """A run that was interrupted in its third epoch."""
    run = start(text, env={"INTERRUPT": str(AT)}, **more)
    send(run, number)
    return run.wait(60)


def resumed(run: Run) -> Run:
    resume(run.directory, target(), {})
    return run.wait(90)


def newest(run: Run) -> dict:
    return checkpoint_files.load(run.checkpoints()[-1])


def check_equal(run: Run, uninterrupted: Run) -> None:
    """Weights and curve of the resumed run are those of the uninterrupted one, bit for bit."""
    assert run.state == uninterrupted.state == "succeeded", run.logs() + uninterrupted.logs()
    assert run.attempts == 2
    for rank in range(run.task.resources.world_size):
        assert run.logs(rank, "out").splitlines()[-1] == uninterrupted.logs(rank, "out").splitlines()[-1]
    steps = list(uninterrupted.series()["loss"].step)
    assert sorted(set(steps)) == list(range(1, int(max(steps)) + 1))
    for name in set(uninterrupted.series()) - {"step_time", "samples_per_s"}:
        assert list(run.series()[name].step) == list(uninterrupted.series()[name].step), name
        assert list(run.series()[name].value) == list(uninterrupted.series()[name].value), name
    rows = run.metrics()
    rows = rows[rows["name"] == "loss"]
    assert list(rows["step"]) == steps
    assert set(rows["attempt"]) == {1, 2}


def check(start, text: str, number: signal.Signals = signal.SIGTERM, **more) -> Run:
    """Interrupted in the middle of an epoch and resumed, a run equals an uninterrupted one; return it."""
    run = interrupted(start, text, number, **more)
    assert run.state == "failed", run.logs()
    assert "-batch-" in run.checkpoints()[-1].name, run.logs()
    step = newest(run)["step"]
    assert run.series()["loss"].step.max() == step
    resumed(run)
    check_equal(run, start(text, **more).wait(60))
    assert list(run.series()["loss"].attempt).count(1) == list(run.series()["loss"].step).index(step + 1)
    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["terminated", "warned"])
def test_a_resumed_epoch_continues_at_the_next_batch(start, number: signal.Signals):
    run = check(start, plain(), number)
    (name,) = [path.name for path in run.checkpoints() if "-batch-" in path.name] or ["gone"]
    assert name == "gone"  # the newest two are of ends of epochs again


def test_the_checkpoint_of_a_batch_can_be_loaded(start):
    run = interrupted(start, plain())
    assert run.checkpoints()[-1].name == f"epoch-000002-batch-{AT + 1:06d}.pt"
    assert newest(run)["step"] == 2 * BATCHES + AT + 1
    layers = [torch.nn.Linear(5, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1)]
    model = torch.nn.Sequential(*layers).double()
    assert run.restore(model=model) == 2
    assert torch.equal(model[0].weight.detach(), newest(run)["state"]["model"]["0.weight"])


def test_an_epoch_can_be_interrupted_twice(start):
    text = plain()
    run = interrupted(start, text)
    resume(run.directory, target(), {"INTERRUPT": "2"})  # counted from where it goes on
    send(run, signal.SIGTERM)
    run.wait(60)
    assert run.checkpoints()[-1].name == f"epoch-000002-batch-{AT + 1 + 3:06d}.pt"
    resumed(run)
    uninterrupted = start(text).wait(60)
    assert run.state == "succeeded"
    assert run.logs(0, "out").splitlines()[-1] == uninterrupted.logs(0, "out").splitlines()[-1]
    assert list(run.series()["loss"].value) == list(uninterrupted.series()["loss"].value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["terminated", "warned"])
def test_ranks_that_train_together_stop_after_the_same_batch(start, number: signal.Signals):
    check(start, plain("DataLoader(data, batch_size=4, shuffle=True)"), number, ranks=2, cpus=1)


def test_ranks_of_code_that_distributes_itself_stop_after_the_same_batch(start):
    text = """
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler
dist.init_process_group("gloo")
model = DistributedDataParallel(model)
sampler = DistributedSampler(data, seed=3)
loader = DataLoader(data, batch_size=4, sampler=sampler)
"""
    body = "    sampler.set_epoch(epoch)\n" + _PLAIN
    check(start, script(text, body), ranks=2, cpus=1)


def test_gradients_that_wait_for_a_step_are_not_lost(start):
    body = """
    for number, (a, b) in enumerate(loader):
        pause(epoch, number)
        (torch.nn.functional.mse_loss(model(a), b) / 3).backward()
        if number % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
"""
    run = check(start, script("loader = DataLoader(data, batch_size=8, shuffle=True)", body))
    assert run.attempts == 2


def test_a_validation_after_the_training_is_of_complete_epochs(start):
    body = (
        _PLAIN
        + """
    with torch.no_grad():
        for a, b in DataLoader(data, batch_size=32):
            last = torch.nn.functional.mse_loss(model.eval()(a), b)
    model.train()
    mlnb.log(validation=last)
"""
    )
    run = check(start, script("loader = DataLoader(data, batch_size=8, shuffle=True)", body))
    assert len(run.series()["validation"]) == EPOCHS


_STREAM = """
class Stream(IterableDataset):
    def __iter__(self):
        for i in torch.randperm(len(data)).tolist():
            yield data[i]
"""


def test_a_loader_within_a_stream_is_no_loader_of_the_training(start):
    text = """
class Stream(IterableDataset):
    def __iter__(self):
        for a, b in DataLoader(data, batch_size=2, shuffle=True):
            yield from zip(a, b)
loader = DataLoader(Stream(), batch_size=8)
"""
    check(start, script(text, _PLAIN))


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_iterable_dataset_is_iterated_up_to_the_next_batch(start, ranks: int):
    check(start, script(_STREAM + "loader = DataLoader(Stream(), batch_size=4)", _PLAIN), ranks=ranks, cpus=1)


def test_what_is_drawn_while_loading_is_drawn_once(start):
    text = """
class Augmented(Dataset):
    def __len__(self):
        return 96
    def __getitem__(self, i):
        a, b = data[i]
        return a + random.random() / 100 + torch.randn(5).double() / 100, b
loader = DataLoader(Augmented(), batch_size=8, shuffle=True)
"""
    check(start, script(text, _PLAIN))


@pytest.mark.parametrize(
    "loader",
    [
        "DataLoader(data, batch_size=8, shuffle=True, num_workers=2)",
        "DataLoader(data, batch_size=8, shuffle=True, num_workers=1, persistent_workers=True)",
        "DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(5))",
        "DataLoader(data, batch_size=8, sampler=WeightedRandomSampler(torch.arange(1.0, 97), 96))",
        "DataLoader(data, batch_size=None, shuffle=True)",
    ],
    ids=["workers", "workers-that-stay", "generator", "weights", "samples"],
)
def test_loaders_of_other_kinds(start, loader: str):
    check(start, plain(loader))


def test_loaders_that_are_iterated_together_stay_together(start):
    loaders = """
loader = DataLoader(data, batch_size=8, shuffle=True)
other = DataLoader(data, batch_size=8, shuffle=True)
"""
    body = """
    for number, ((a, b), (c, d)) in enumerate(zip(loader, other)):
        pause(epoch, number)
        train(torch.cat([a, c]), torch.cat([b, d]))
"""
    check(start, script(loaders, body))


def test_a_loader_that_is_begun_again_meanwhile_goes_on_too(start):
    loaders = """
loader = DataLoader(data, batch_size=8, shuffle=True)
short = DataLoader(TensorDataset(*data[:32]), batch_size=8, shuffle=True)
"""
    body = """
    more = iter(short)
    for number, (a, b) in enumerate(loader):
        pause(epoch, number)
        try:
            c, d = next(more)
        except StopIteration:
            more = iter(short)
            c, d = next(more)
        train(torch.cat([a, c]), torch.cat([b, d]))
"""
    check(start, script(loaders, body))


def test_an_inner_loop_is_not_interrupted(start):
    loaders = """
loader = DataLoader(data, batch_size=8, shuffle=True)
few = DataLoader(TensorDataset(*data[:24]), batch_size=8, shuffle=True)
"""
    body = """
    for number, (a, b) in enumerate(loader):
        pause(epoch, number)
        for c, d in few:
            train(torch.cat([a, c]), torch.cat([b, d]))
"""
    check(start, script(loaders, body))


@pytest.mark.parametrize(("ranks", "size", "steps"), [(1, 16, 3), (2, 4, 6), (2, 2, 12), (1, 5, 11)])
def test_another_run_goes_on_at_the_same_sample(start, ranks: int, size: int, steps: int):
    """With other ranks or batches, between two of which it may come to lie: then at the earlier."""
    run = interrupted(start, plain())
    done = newest(run)["step"]
    text = plain(f"DataLoader(data, batch_size={size}, shuffle=True)")
    local, about = target(), {"resume": str(run.directory.checkpoints)}
    offer = local.offer(Resources(ranks=ranks, cpus=1))
    other = Run(submit(Task(script=text, seed=0), {}, local, offer, name="other", env={}, info_fields=about)).wait(60)
    assert other.state == "succeeded", other.logs()
    assert other.series()["loss"].step[0] == done + 1
    assert other.series()["loss"].step[-1] == done + steps + -(-96 // (size * ranks))


# where it can't be done


def check_no_checkpoint_within_the_epoch(run: Run) -> None:
    assert run.state == "failed", run.logs()
    assert [path.name for path in run.checkpoints()] == ["epoch-000002.pt", "epoch-000003.pt"], run.logs()


def test_a_batch_that_was_drawn_ahead_is_not_lost(start):
    body = """
    batches = iter(loader)
    ahead, number = next(batches), 0
    while ahead is not None:
        (a, b), ahead = ahead, next(batches, None)
        pause(epoch, number)
        train(a, b)
        number += 1
"""
    check_no_checkpoint_within_the_epoch(
        interrupted(start, script("loader = DataLoader(data, batch_size=8)", body), signal.SIGUSR1)
    )


def test_no_checkpoint_is_made_after_the_last_batch_of_a_loop(start):
    body = (
        _PLAIN.replace("pause(epoch, number)", f"pause(epoch, number - {BATCHES - 1} + {AT})") + "    print(a.sum())\n"
    )
    text = script("loader = DataLoader(data, batch_size=8)", body)
    check_no_checkpoint_within_the_epoch(interrupted(start, text, signal.SIGUSR1))


def test_a_second_training_loop_of_an_epoch_has_no_checkpoints(start):
    body = """
    for a, b in loader:
        train(a, b)
    for number, (a, b) in enumerate(loader):
        pause(epoch, number)
        train(a, b)
"""
    check_no_checkpoint_within_the_epoch(
        interrupted(start, script("loader = DataLoader(data, batch_size=8)", body), signal.SIGUSR1)
    )


def test_a_loop_before_the_training_is_repeated(start):
    body = (
        """
    samples = sum(len(a) for a, _ in DataLoader(data, batch_size=16))
    assert samples == 96
"""
        + _PLAIN
    )
    check(start, script("loader = DataLoader(data, batch_size=8, shuffle=True)", body))


def test_a_batch_that_takes_too_long_is_interrupted(start, short_grace):
    body = _PLAIN.replace("pause(epoch, number)", "\n        if (epoch, number) == (2, 5): time.sleep(600)")
    run = start(script("loader = DataLoader(data, batch_size=8)", body))
    until(lambda: "loss" in run.series() and run.series()["loss"].step.max() >= 2 * BATCHES + AT)
    run.cancel()
    assert run.state == "cancelled"
    assert [path.name for path in run.checkpoints()] == ["epoch-000001.pt", "epoch-000002.pt"]


def test_a_rank_that_alone_is_warned_does_not_stop_alone(start):
    body = _PLAIN.replace("train(a, b)", "train(a, b); time.sleep(0.01)").replace("pause(epoch, number)", "")
    text = script("loader = DataLoader(data, batch_size=4, shuffle=True)", body)
    run = start(text, ranks=2, cpus=1)
    until(lambda: "loss" in run.series() and run.series()["loss"].step.max() >= 3)
    events = read_lines(run.directory.attempt(1).events(0))
    ranks = next(event for event in events if event["event"] == "running")["ranks"]
    os.kill(ranks["1"], signal.SIGUSR1)
    run.wait(60)
    assert run.state == "failed"
    assert "-batch-" not in run.checkpoints()[-1].name


# long epochs


@pytest.mark.parametrize("ranks", [1, 2])
def test_checkpoints_are_made_within_a_long_epoch(start, ranks: int):
    body = _PLAIN.replace("pause(epoch, number)", "time.sleep(0.02)")
    text = script("loader = DataLoader(data, batch_size=4, shuffle=True)", body)
    text = text.replace("mlnb.epochs(", "mlnb.epochs(minutes=0.05 / 60, count=")
    run = start(text, ranks=ranks, cpus=1)
    until(lambda: "epoch-000002-batch" in (run.checkpoints() or [run.dir])[-1].name)
    events = read_lines(run.directory.attempt(1).events(0))
    pids = next(event for event in events if event["event"] == "running")["ranks"]
    os.kill(pids["0"], signal.SIGKILL)
    run.wait(60)
    assert run.state == "failed"
    assert "-batch-" in run.checkpoints()[-1].name
    resumed(run)
    uninterrupted = start(text, ranks=ranks, cpus=1).wait(60)
    check_equal(run, uninterrupted)
