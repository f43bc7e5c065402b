"""``mlnb run``: a script as it is, with its own command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlnb.api import runs
from mlnb.rundir import FINAL
from tests.cli.conftest import Shell, interrupt
from tests.waiting import until

ARGPARSE = """
import argparse
import os
import torch
import helper

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--name", default="nobody")
    args = parser.parse_args()
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(args.steps):
        loss = model(torch.ones(1, 2)).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(helper.greet(args.name), args.data, os.environ.get("SERVICE_URL"))
    if args.data == "bad":
        raise ValueError("no such data")

if __name__ == "__main__":
    main()
"""

TYPER = """
from typing import Annotated
import typer

app = typer.Typer()

@app.command()
def train(epochs: int, rate: Annotated[float, typer.Option("--lr")] = 0.1, dry_run: bool = False):
    print(f"{epochs=} {rate=} {dry_run=}")

if __name__ == "__main__":
    app()
"""


@pytest.fixture
def project(mlnb: Shell) -> Shell:
    """A script with a module beside it."""
    mlnb.write("train.py", ARGPARSE)
    mlnb.write("helper.py", "def greet(name):\n    return f'hello {name}'\n")
    return mlnb


def test_a_script_runs_with_its_own_arguments_and_modules(project: Shell) -> None:
    own = ["set", "--steps", "5", "--name", "Ada"]
    ended = project(*["run", "--name", "first", "--seed", "3", "--env", "SERVICE_URL=x:1", "train.py", "--"], *own)
    assert (ended.code, ended.out, ended.err) == (0, "hello Ada set x:1\n", "")
    run = runs["first"]
    assert run.state == "succeeded"
    assert len(run.series()["loss"]) == 5
    assert run.task.argv == tuple(own)
    assert not any(b"x:1" in path.read_bytes() for path in run.dir.rglob("*.json"))


def test_a_script_that_fails_shows_its_traceback_and_exits_with_1(project: Shell) -> None:
    ended = project("run", "train.py", "bad")
    assert ended.code == 1
    run = runs["train"]
    *trace, last, sentence = ended.err.splitlines(keepends=True)
    line = ARGPARSE[: ARGPARSE.index("raise ValueError")].count("\n") + 1
    assert f'File "train.py", line {line}, in main' in "".join(trace)
    assert last == "ValueError: no such data\n"
    assert ended.out == "hello nobody bad None\n"
    assert sentence == (
        f"mlnb: Run train failed in train.py, line {line}: ValueError: no such data. "
        f"`mlnb show {run.id}` has the details.\n"
    )


def test_the_script_s_own_refusal_of_its_arguments_is_a_failed_run(project: Shell) -> None:
    ended = project("run", "train.py", "--nothing-such")
    assert ended.code == 1
    assert "train.py: error: " in ended.err
    assert " failed: the script called sys.exit(2). " in ended.err


def test_two_dashes_and_typer_and_a_script_elsewhere(mlnb: Shell, tmp_path: Path) -> None:
    script = mlnb.write("deep/er/my train!.py", TYPER)
    mlnb.folder = tmp_path
    ended = mlnb("run", str(script), "--", "3", "--lr", "0.5", "--dry-run")
    assert (ended.code, ended.out) == (0, "epochs=3 rate=0.5 dry_run=True\n"), ended.err
    assert runs["my-train"].state == "succeeded"
    told = mlnb("run", str(script), "--help")
    assert told.code == 0
    assert "--lr" in told.out, "help after the script is the script's"


def test_json_has_the_run_on_stdout_and_its_output_on_stderr(project: Shell) -> None:
    ended = project("run", "--json", "train.py", "set", "--steps", "2")
    assert ended.code == 0
    assert ended.err == "hello nobody set None\n"
    told = ended.json
    run = runs["train"]
    assert {key: told[key] for key in ("id", "name", "state", "reason", "target", "dir", "attempts", "exit_code")} == {
        "id": run.id,
        "name": "train",
        "state": "succeeded",
        "reason": "",
        "target": "local",
        "dir": str(run.dir),
        "attempts": 1,
        "exit_code": 0,
    }
    assert told["metrics"]["loss"]["count"] == 2


def test_two_ranks_follow_torchrun_s_contract(mlnb: Shell) -> None:
    mlnb.write("ranks.py", "import os\nprint(*(os.environ[n] for n in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE')))\n")
    assert mlnb("run", "--ranks", "2", "ranks.py").out == "0 0 2\n"
    assert mlnb("logs", "ranks", "--rank", "1").out == "1 1 2\n"
    refused = mlnb("logs", "ranks", "--rank", "2")
    assert (refused.code, refused.err) == (2, "mlnb: rank 2: the run has ranks 0 to 1\n")


def test_an_interrupt_leaves_the_run_running(mlnb: Shell) -> None:
    script = mlnb.write(
        "wait.py",
        "import pathlib, time\nprint('started', flush=True)\n"
        "while not pathlib.Path(__file__).with_name('gate').exists(): time.sleep(0.01)\nprint('ended')\n",
    )
    process = mlnb.start("run", "wait.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    interrupt(process)
    ended = mlnb.finish(process)
    run = runs["wait"]
    assert ended.code == 130
    assert ended.err.strip() == (
        f"mlnb: Run wait ({run.id}) continues. `mlnb logs -f {run.id}` follows it, `mlnb cancel {run.id}` stops it."
    )
    assert run.state == "running"
    script.with_name("gate").touch()
    assert run.wait().state == "succeeded"


def test_detach_returns_at_once_and_says_how_to_follow(mlnb: Shell, waiting: str) -> None:
    ended = mlnb("run", "--detach", "wait.py")
    second = runs[0]
    assert ended.code == 0
    assert ended.out == f"wait ({second.id}) submitted. `mlnb logs -f {second.id}` follows it.\n"
    assert second.id != waiting
    assert second.state not in FINAL


def test_logs_follow_a_run_to_its_end(mlnb: Shell, waiting: str) -> None:
    assert mlnb("logs", "wait").out == "started\n"
    process = mlnb.start("logs", "-f", "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    (mlnb.folder / "gate").touch()
    ended = mlnb.finish(process)
    assert (ended.code, ended.out, ended.err) == (0, "ended\n", "")
    told = mlnb("logs", "--json", "wait").json
    assert told == {"id": waiting, "rank": 0, "out": "started\nended\n", "err": ""}


def test_logs_that_follow_a_failing_run_exit_with_1(mlnb: Shell, waiting: str) -> None:
    process = mlnb.start("logs", "-f", waiting)
    assert process.stdout is not None
    process.stdout.readline()
    assert mlnb("cancel", waiting).code == 0
    assert mlnb.finish(process).code == 1


BAD_USE = {
    "no script": ([], "run needs a script: mlnb run [options] script.py [args]"),
    "only options": (["--cpus", "1"], "run needs a script"),
    "no such script": (["nothing.py"], "mlnb run nothing.py: can't read it: No such file or directory"),
    "a folder": (["."], "mlnb run .: can't read it: Is a directory"),
    "not Python": (["broken.py"], "mlnb run broken.py: line 2: invalid syntax"),
    "not text": (["binary.py"], "mlnb run binary.py: can't read it: it is not text"),
    "an unknown option": (["--detatch", "ok.py"], "--detatch: not an option; did you mean --detach?"),
    "a cell's option": (["--in", "x", "ok.py"], "--in: not an option of mlnb run: a script reads its files where"),
    "a switch with a value": (["--detach=1", "ok.py"], "--detach=1: --detach takes no value"),
    "a bad value": (["--memory", "lots", "ok.py"], "--memory lots: --memory takes a size like 24GB"),
    "too much": (["--gpus=7", "ok.py"], "--gpus 7: this machine has "),
    "an unknown target": (["--on", "moon", "ok.py"], "Unknown target moon. Available: local"),
    "an option after the script": (
        ["ok.py", "--on", "local"],
        "--on after ok.py: an option of mlnb run. Write it ",
    ),
    "an option with a value after it": (["ok.py", "x", "--cpus=2"], "--cpus after ok.py: an option of mlnb run"),
    "an option of a target after it": (["ok.py", "--partition", "x"], "--partition after ok.py: an option of mlnb"),
    "an option after a module": (["-m", "ok", "--detach"], "--detach after -m ok: an option of mlnb run"),
    "no module": (["-m"], "-m needs a module"),
    "a bad name": (["--name", "a b", "ok.py"], "--name 'a b': letters, digits"),
}


@pytest.mark.parametrize(("words", "message"), BAD_USE.values(), ids=BAD_USE)
def test_bad_use_is_one_line_exit_2_and_writes_nothing(
    mlnb: Shell, runs_root: Path, words: list[str], message: str
) -> None:
    mlnb.write("ok.py", "print('ran')\n")
    mlnb.write("broken.py", "x = 1\nx = = 2\n")
    (mlnb.folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    ended = mlnb("run", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mlnb: {message}")
    assert ended.err.count("\n") == 1
    assert not runs_root.exists()


def test_a_dry_run_shows_and_writes_nothing(project: Shell, runs_root: Path) -> None:
    ended = project("run", "--dry-run", "train.py", "set", "--steps", "2")
    assert ended.code == 0
    assert ended.out.startswith("runs on      local: 1 rank × ")
    assert "runs         train.py set --steps 2\n" in ended.out
    assert "sends        modules/helper.py\n" in ended.out
    assert ARGPARSE in ended.out
    assert not runs_root.exists()


def test_help_lists_what_mlnb_run_takes(mlnb: Shell) -> None:
    told = mlnb("run", "--cpus", "1", "--help")
    assert told.code == 0
    for flag in ("--ranks N", "--env NAME[=VALUE]", "--dry-run", "--detach", "--json"):
        assert f"\n  {flag} " in told.out
    assert "--in " not in told.out


def test_what_can_not_be_written_is_one_line(mlnb: Shell, tmp_path: Path) -> None:
    mlnb.write("ok.py", "print('ran')\n")
    (tmp_path / "file").touch()
    ended = mlnb("run", "ok.py", env={"MLNB_RUNS": str(tmp_path / "file" / "runs")})
    assert ended.code == 1
    assert ended.err == (
        f"mlnb: can't write {tmp_path / 'file' / 'runs'}: part of the path is not a directory. "
        "Free space there or set MLNB_RUNS to another folder.\n"
    )
    until(lambda: not (tmp_path / "file" / "runs").exists())
