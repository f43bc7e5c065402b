"""``mlnb run --resume``: what the line says holds, what it leaves open is as it was, and it is one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlnb.api import Run, runs
from tests.cli.conftest import Shell
from tests.waiting import until

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
import mlnb
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in mlnb.epochs(4, model=model, optimizer=optimizer):
    while epoch == 2 and not Path(sys.argv[1]).exists():
        time.sleep(0.01)
    for (x,) in DataLoader(TensorDataset(torch.arange(8.0).reshape(8, 1) / 8), batch_size=2, shuffle=True):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(*(p.item().hex() for p in model.parameters()), os.environ.get("WORLD_SIZE"), os.environ.get("TOKEN"))
"""


@pytest.fixture
def stopped(mlnb: Shell) -> Run:
    """A run that was cancelled in its third epoch of four; what it waited for is there now."""
    mlnb.write("train.py", SCRIPT)
    words = ["--seed", "1", "--cpus", "1", "--time", "10m", "--memory", "2GB", "--name", "stopped"]
    assert mlnb("run", "--detach", *words, "train.py", "gate").code == 0
    run = runs["stopped"]
    until(lambda: len(run.checkpoints()) == 2)
    run.cancel()
    (mlnb.folder / "gate").touch()
    return run


def steps(run: Run) -> list[float]:
    return list(run.series()["loss"].step)


@pytest.mark.parametrize("script", [[], ["train.py", "gate"]])
def test_it_goes_on_where_it_was_with_what_the_line_says_and_else_as_before(
    mlnb: Shell, stopped: Run, script: list[str]
) -> None:
    ended = mlnb("run", "--resume", "stopped", "--time", "2h", *script)
    assert ended.code == 0, ended.err
    assert ended.err.startswith("mlnb: continues from epoch-000002")
    assert (stopped.state, stopped.attempts, len(runs)) == ("succeeded", 2, 1)
    asked = stopped.task.resources
    assert (asked.time, asked.cpus, asked.memory) == (7200, 1, 2 * 10**9)
    assert steps(stopped) == list(range(1, 17))
    whole = mlnb("run", "--seed", "1", "--cpus", "1", "train.py", "gate")
    assert ended.out == whole.out, "the weights, bit for bit"


def test_more_ranks_go_on_at_the_same_sample_and_it_says_what_that_means(mlnb: Shell, stopped: Run) -> None:
    ended = mlnb("run", "--resume", "stopped", "--ranks", "2")
    assert ended.code == 0, ended.err
    assert "with 2 ranks instead of 1: at the same sample, but the results are not bit for bit the same" in ended.err
    assert ended.out.split()[2] == "2"
    done = len(stopped.metrics().query("attempt == 1 and name == 'loss'"))
    assert steps(stopped) == list(range(1, done + (16 - done) // 2 + 1))
    assert mlnb("logs", "stopped", "--rank", "1").code == 0


def test_it_goes_on_elsewhere_and_who_knew_the_run_before_finds_it_there(mlnb: Shell, stopped: Run) -> None:
    assert stopped.target == "local"
    ended = mlnb("run", "--resume", "stopped", "--on", "other", env={"DASK_MLNB__TARGETS__OTHER__KIND": "local"})
    assert ended.code == 0, ended.err
    assert (stopped.target, stopped.name, stopped.attempts) == ("other", "stopped", 2)
    assert stopped.state == "succeeded"
    assert steps(stopped) == list(range(1, 17))


def test_another_script_starts_from_the_checkpoint_as_a_run_of_its_own(mlnb: Shell, stopped: Run) -> None:
    mlnb.write("train.py", SCRIPT.replace("epochs(4", "epochs(3"))
    ended = mlnb("run", "--resume", "stopped", "--name", "other", "train.py", "gate")
    assert ended.code == 0, ended.err
    assert stopped.state == "cancelled"
    assert runs["other"].task.resources.memory == 2 * 10**9
    assert steps(runs["other"])[-1] == 12


def test_a_variable_is_asked_for_again_since_its_value_is_nowhere(mlnb: Shell, stopped: Run) -> None:
    (mlnb.folder / "gate").unlink()
    assert mlnb("run", "--detach", "--name", "secret", "--env", "TOKEN=first", "train.py", "gate").code == 0
    until(lambda: len(runs["secret"].checkpoints()) == 2)
    runs["secret"].cancel()
    (mlnb.folder / "gate").touch()
    refused = mlnb("run", "--resume", "secret")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        "mlnb: --resume secret: the run had --env TOKEN; give it again, since mlnb does not store its value",
    )
    assert runs["secret"].attempts == 1
    ended = mlnb("run", "--resume", "secret", "--env", "TOKEN=second")
    assert ended.out.split()[-1] == "second"


REFUSED = [
    (["--seed", "2"], "--seed 2: --resume stopped takes random states from the checkpoint; leave --seed out"),
    (["--parallel", "none"], "--parallel none: --resume stopped was started with auto; leave it out"),
    (["--gpus", "7"], "--gpus 7: this machine has "),
    (["--on", "moon"], "Unknown target moon. Available: "),
    (["--resume", "x"], "--resume is given twice"),
]


def test_what_can_not_be_is_one_line_and_leaves_the_run_as_it_was(mlnb: Shell, stopped: Run) -> None:
    before = {path: path.read_bytes() for path in sorted(stopped.dir.rglob("*")) if path.is_file()}
    for words, message in REFUSED:
        refused = mlnb("run", "--resume", "stopped", *words)
        assert (refused.code, refused.out) == (2, ""), words
        assert refused.err.splitlines()[-1].startswith(f"mlnb: {message}")
        assert {path: path.read_bytes() for path in sorted(stopped.dir.rglob("*")) if path.is_file()} == before, words


def test_a_run_that_can_not_be_resumed_is_named(mlnb: Shell, tmp_path: Path) -> None:
    mlnb.write("plain.py", "pass\n")
    assert mlnb("run", "plain.py").code == 0
    assert mlnb("run", "--resume", "plain").err == (
        "mlnb: --resume plain: that run has no checkpoint; mlnb.epochs(...) makes them\n"
    )
    refusal = mlnb("run", "--resume", "plian").err
    assert refusal.startswith("mlnb: --resume plian: No run named 'plian' in ")
    assert refusal.endswith(". Did you mean plain?\n")


def test_a_dry_run_shows_what_it_would_have(mlnb: Shell, stopped: Run) -> None:
    shown = mlnb("run", "--resume", "stopped", "--time", "2h", "--dry-run")
    assert shown.code == 0, shown.err
    assert "time limit 2 h; continues from epoch-000002" in shown.out
    assert stopped.attempts == 1
