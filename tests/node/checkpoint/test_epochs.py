"""A run that was interrupted resumes as if it had not been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import mlnb
from mlnb.api.read.tailing import MetricsTail
from mlnb.api.submit.submit import resume
from mlnb.errors import MlnbError, NotTrusted, UsageError
from mlnb.node.checkpoint import files as checkpoint_files
from mlnb.node.checkpoint import names
from mlnb.node.process.identity import send_signal
from mlnb.rundir import read_lines
from mlnb.targets.registry import target
from tests.node.printed import printed
from tests.waiting import until

EPOCHS, STEPS = 6, 8

_TRAIN = f"""
import hashlib, os, random, time
from pathlib import Path
import numpy as np
import torch
import mlnb
from torch.utils.data import DataLoader, TensorDataset

go = Path(os.environ["GO"])
x = torch.arange(64 * 5, dtype=torch.float64).reshape(64, 5) / 1000
data = TensorDataset(x, x.sum(1, keepdim=True))
model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1)).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
loader = DataLoader(data, batch_size=8, shuffle=True)
for epoch in mlnb.epochs({EPOCHS}, model=model, optimizer=optimizer, scheduler=scheduler):
    for number, (a, b) in enumerate(loader):
        while epoch == 3 and number == 4 and not go.exists():
            time.sleep(0.01)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(a), b) * (1 + random.random() + np.random.rand())
        loss.backward()
        optimizer.step()
        mlnb.log(step=number, batch=epoch)
    scheduler.step()
    mlnb.log(lr=scheduler.get_last_lr()[0], epoch=epoch)
    mlnb.log(step=epoch, own=epoch)  # counted by the script itself
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The file that lets a training go on from the middle of its fourth epoch."""
    return tmp_path / "go"


def in_the_middle(run) -> None:
    """Wait until every rank has flushed what it logged up to the middle of the fourth epoch."""
    for rank in range(run.task.resources.world_size):
        until(lambda rank=rank: _newest_step(run, rank) >= 3 * STEPS + 4)


def _newest_step(run, rank: int) -> float:
    columns = MetricsTail(run.directory.attempt(1).metrics(rank)).new()
    return columns["loss"][1].max() if "loss" in columns else 0


def test_a_checkpoint_is_made_at_the_end_of_each_epoch_and_the_newest_two_stay(start, go: Path):
    go.touch()
    run = start(_TRAIN, env={"GO": str(go)}).wait(60)
    assert run.state == "succeeded", run.logs()
    assert [path.name for path in run.checkpoints()] == ["epoch-000005.pt", "epoch-000006.pt"]
    assert [path.name for path in run.directory.checkpoints.iterdir() if path.suffix != ".pt"] == []
    saved = checkpoint_files.load(run.checkpoints()[0])
    assert (saved["epoch"], saved["step"]) == (5, 5 * STEPS)
    assert set(saved["state"]) == {"model", "optimizer", "scheduler"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_resumed_run_has_the_results_of_an_uninterrupted_one(
    start, short_grace, go: Path, tmp_path: Path, number: signal.Signals
):
    """It is killed, or terminated while a batch takes longer than it has time: the last epoch's checkpoint counts."""
    (tmp_path / "never").touch()
    uninterrupted = start(_TRAIN, env={"GO": str(tmp_path / "never")})
    run = start(_TRAIN, env={"GO": str(go)})
    in_the_middle(run)
    started = next(event for event in read_lines(run.directory.attempt(1).events(0)) if event["event"] == "started")
    assert send_signal(started["pid"], started["identity"], number)
    run.wait(60)
    assert run.state == ("failed" if number == signal.SIGTERM else "lost")
    assert [path.name for path in run.checkpoints()] == ["epoch-000002.pt", "epoch-000003.pt"]
    assert checkpoint_files.load(run.checkpoints()[-1])["step"] == 3 * STEPS

    go.touch()
    resume(run.directory, target(), {"GO": str(go)})
    run.wait(60)
    uninterrupted.wait(60)
    assert run.state == uninterrupted.state == "succeeded", run.logs() + uninterrupted.logs()
    assert run.attempts == 2
    assert run.logs(0, "out") == uninterrupted.logs(0, "out")  # the weights' hash
    resumed, expected = run.series()["loss"], uninterrupted.series()["loss"]
    assert list(resumed.step) == list(range(1, EPOCHS * STEPS + 1))
    assert np.isfinite(resumed.value).all()
    assert list(resumed.value) == list(expected.value)
    assert list(resumed.attempt) == [1] * 3 * STEPS + [2] * 3 * STEPS
    assert list(run.series()["epoch"].value) == list(range(EPOCHS))
    for own in ("own", "batch"):
        assert list(run.series()[own].step) == list(uninterrupted.series()[own].step)
        assert list(run.series()[own].value) == list(uninterrupted.series()[own].value)
    assert list(run.series()["lr"].value) == list(uninterrupted.series()["lr"].value)
    assert list(run.metrics().columns) == ["name", "step", "time", "value", "attempt"]
    assert "mlnb.resumed" not in set(run.metrics()["name"])


def test_a_run_without_a_checkpoint_starts_again_with_an_empty_curve(start, go: Path):
    script = (
        "import mlnb, os, time\nfrom pathlib import Path\n"
        "for step in range(1, 11):\n"
        "    while step == 6 and not Path(os.environ['GO']).exists(): time.sleep(0.01)\n"
        "    mlnb.log(step=step, x=step)\n"
    )
    run = start(script, env={"GO": str(go)})
    until(lambda: "x" in run.series() and len(run.series()["x"]) == 5)
    run.cancel()
    assert run.state == "cancelled"
    go.touch()
    resume(run.directory, target(), {"GO": str(go)})
    run.wait(60)
    assert run.state == "succeeded"
    assert list(run.series()["x"].step) == list(range(1, 11))
    assert set(run.series()["x"].attempt) == {2}


def test_a_warned_run_ends_after_its_next_checkpoint(start, go: Path):
    run = start(_TRAIN, env={"GO": str(go)})
    in_the_middle(run)
    progress = run.progress
    assert progress.state == "running"
    started = next(event for event in read_lines(run.directory.attempt(1).events(0)) if event["event"] == "started")
    assert send_signal(started["pid"], started["identity"], signal.SIGUSR1)
    until(lambda: any(event["event"] == "warned" for event in read_lines(run.directory.attempt(1).events(0))))
    go.touch()
    run.wait(60)
    assert run.state == "failed"
    assert any("SIGUSR1" in note for note in run.result["notes"])
    saved = checkpoint_files.load(run.checkpoints()[-1])
    assert saved["epoch"] >= 3
    assert run.series()["loss"].step.max() == saved["step"] >= 3 * STEPS + 5


def test_outside_a_run_epochs_is_a_range(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLNB_CHECKPOINTS", raising=False)
    assert list(mlnb.epochs(3, model=torch.nn.Linear(1, 1))) == [0, 1, 2]


def test_an_object_that_cannot_be_saved_is_refused_at_the_start():
    with pytest.raises(TypeError, match=r"mlnb.epochs\(data=…\): a list has no state_dict"):
        next(iter(mlnb.epochs(3, data=[1])))


def test_minutes_must_be_above_zero():
    with pytest.raises(ValueError, match=r"mlnb.epochs\(minutes=0\): must be above 0"):
        next(iter(mlnb.epochs(3, minutes=0)))


# checkpoints as files


def test_a_checkpoint_that_cannot_be_written_leaves_those_before_it(tmp_path: Path):
    checkpoint_files.save(tmp_path, 1, {"epoch": 1})
    with pytest.raises((TypeError, AttributeError, ValueError)):
        checkpoint_files.save(tmp_path, 2, {"epoch": 2, "what": lambda: None})
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001.pt"]


def test_an_incomplete_checkpoint_is_ignored(tmp_path: Path):
    for name in ("epoch-000001.pt", "epoch-000010.pt", "epoch-000003.tmp", "epoch-000010.rank-1.pt", "epoch-1.pt"):
        (tmp_path / name).touch()
    assert [path.name for path in names.checkpoints(tmp_path)] == ["epoch-000001.pt", "epoch-000010.pt"]


def test_checkpoints_within_an_epoch_are_newer_than_that_at_its_beginning(tmp_path: Path):
    for epoch, batch in ((3, 0), (3, 20), (3, 1000000)):
        checkpoint_files.save(tmp_path, epoch, {}, batch)
    ordered = [path.name for path in names.checkpoints(tmp_path)]
    assert ordered == ["epoch-000003-batch-000020.pt", "epoch-000003-batch-1000000.pt"]
    checkpoint_files.save(tmp_path, 4, {})
    assert names.checkpoints(tmp_path)[-1].name == "epoch-000004.pt"


def test_a_checkpoint_others_could_have_written_is_not_loaded(tmp_path: Path):
    tmp_path.chmod(0o700)
    path = checkpoint_files.save(tmp_path, 1, {"epoch": 1})
    assert checkpoint_files.load(path) == {"epoch": 1}
    path.chmod(0o666)
    with pytest.raises(NotTrusted):
        checkpoint_files.load(path)


def test_a_checkpoint_is_private_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        path = checkpoint_files.save(tmp_path / "checkpoints", 1, {"epoch": 1})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert checkpoint_files.load(path) == {"epoch": 1}


_TOGETHER = _TRAIN.replace(
    "loader = DataLoader(data, batch_size=8, shuffle=True)",
    "own = torch.Generator().manual_seed(4)\nloader = DataLoader(data, batch_size=4, shuffle=True, generator=own)",
).replace("scheduler=scheduler)", "scheduler=scheduler, own=own)")


def test_ranks_that_train_together_are_resumed_together(start, go: Path, tmp_path: Path):
    """One rank is killed; both go on from the checkpoint, each with its own random numbers and the loader's."""
    (tmp_path / "never").touch()
    uninterrupted = start(_TOGETHER, ranks=2, cpus=1, env={"GO": str(tmp_path / "never")})
    run = start(_TOGETHER, ranks=2, cpus=1, env={"GO": str(go)})
    in_the_middle(run)
    events = read_lines(run.directory.attempt(1).events(0))
    ranks = next(event for event in events if event["event"] == "running")["ranks"]
    os.kill(ranks["1"], signal.SIGKILL)
    run.wait(60)
    assert run.state == "failed"
    assert "rank 1 was killed by SIGKILL" in run.reason

    go.touch()
    resume(run.directory, target(), {"GO": str(go)})
    run.wait(90)
    uninterrupted.wait(90)
    assert run.state == uninterrupted.state == "succeeded", run.logs() + uninterrupted.logs()
    assert printed(run, 0) == printed(uninterrupted, 0) == printed(run, 1)
    assert list(run.series()["loss"].step) == list(range(1, EPOCHS * STEPS + 1))
    assert list(run.series()["loss"].value) == list(uninterrupted.series()["loss"].value)


def test_warned_ranks_end_after_the_same_checkpoint(start, go: Path):
    run = start(_TOGETHER, ranks=2, cpus=1, env={"GO": str(go)})
    in_the_middle(run)
    events = read_lines(run.directory.attempt(1).events(0))
    ranks = next(event for event in events if event["event"] == "running")["ranks"]
    os.kill(ranks["1"], signal.SIGUSR1)  # one alone is warned; the other must not go on into an epoch without it
    go.touch()
    run.wait(60)
    assert run.state == "failed"
    assert [path.name for path in run.checkpoints()][-1] == "epoch-000004.pt"
    assert {int(run.series()["epoch"].value[-1])} == {3}


def test_a_slow_rank_does_not_resume_from_a_checkpoint_of_the_same_attempt(start):
    """Nothing holds ranks together that train separately; rank 1 begins when rank 0 has saved all its checkpoints."""
    script = """
import os, time
from pathlib import Path
import mlnb
done = Path(os.environ["MLNB_RUN"]) / "done"
while os.environ["RANK"] == "1" and not done.exists():
    time.sleep(0.01)
print([epoch for epoch in mlnb.epochs(3)])
done.touch()
"""
    run = start(script, ranks=2, cpus=1, parallel="none").wait(60)
    assert run.state == "succeeded", run.logs(0) + run.logs(1)
    assert [run.logs(rank, "out") for rank in (0, 1)] == ["[0, 1, 2]\n"] * 2


def test_only_the_first_loop_of_a_run_makes_checkpoints_and_a_later_one_is_run_as_a_whole(start):
    script = """
import os
import torch
import mlnb
model = torch.nn.Linear(1, 1, bias=False)
for epoch in mlnb.epochs(3, model=model):
    torch.nn.init.constant_(model.weight, epoch + 1)
for epoch in mlnb.epochs(4, model=model):
    with torch.no_grad():
        model.weight += 10
    assert epoch < 2 or "FAIL" not in os.environ
print(model.weight.item())
"""
    run = start(script, env={"FAIL": "1"}).wait(60)
    assert "only a run's first loop over mlnb.epochs makes checkpoints" in run.logs(0, "err")
    assert [path.name for path in run.checkpoints()] == ["epoch-000002.pt", "epoch-000003.pt"]
    resume(run.directory, target(), {})
    assert run.wait(60).state == "succeeded", run.logs()
    assert run.logs(0, "out") == "43.0\n"


def test_a_checkpoint_that_has_all_epochs_already_leaves_none_to_run_and_says_so(start):
    script = "import mlnb, sys\nprint([epoch for epoch in mlnb.epochs(2)])\nsys.exit(1)"
    run = start(script).wait(60)
    assert run.logs(0, "err") == ""
    resume(run.directory, target(), {})
    run.wait(60)
    assert run.logs(0, "out") == "[]\n"
    assert "the checkpoint has 2 epochs, and mlnb.epochs(2) no more: none is run" in run.logs(0, "err")


def test_a_loop_of_no_epochs_has_no_checkpoint_to_tell_of(start):
    run = start("import mlnb\nprint([epoch for epoch in mlnb.epochs(0)])").wait(60)
    assert run.logs() == "[]\n"


def test_the_newest_checkpoint_can_be_loaded_while_the_run_goes_on(start, go: Path):
    run = start(_TRAIN, env={"GO": str(go)})
    in_the_middle(run)
    layers = [torch.nn.Linear(5, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1)]
    model = torch.nn.Sequential(*layers).double()
    weight = model[0].weight
    assert run.restore(model=model) == 3
    assert run.state == "running"
    saved = checkpoint_files.load(run.checkpoints()[-1])["state"]["model"]
    assert model[0].weight is weight
    assert torch.equal(weight.detach(), saved["0.weight"])
    with pytest.raises(UsageError, match="the checkpoint holds model, optimizer, scheduler"):
        run.restore(net=model)


def test_without_a_checkpoint_nothing_is_loaded(start):
    run = start("pass").wait(60)
    with pytest.raises(MlnbError, match="no checkpoint"):
        run.restore(model=torch.nn.Linear(1, 1))
