"""``mlnb runs | show | logs | cancel | doctor``."""

from __future__ import annotations

import importlib
from pathlib import Path

import dask
import pytest

from mlnb.api import runs
from mlnb.targets.batch.queue import cancelling
from mlnb.workspace import Workspace
from tests.cli.conftest import Shell
from tests.conftest import Start
from tests.targets.batch.played import played

doctor = importlib.import_module("mlnb.cli.doctor")  # in the package its command has that name
SHAPE = {"id", "name", "state", "reason", "target", "dir", "attempts", "exit_code", "metrics"}


def test_runs_when_there_are_none(mlnb: Shell) -> None:
    ended = mlnb("runs")
    assert (ended.code, ended.out) == (0, "No runs yet. Start one: %%train on top of a cell, or mlnb run script.py\n")
    assert mlnb("runs", "--json").json == []


def test_runs_lists_the_newest_first(mlnb: Shell, start: Start) -> None:
    start("import mlnb\nfor k in range(3): mlnb.log(loss=k / 2)", name="good").wait()
    start("1 / 0", name="bad").wait()
    header, *rows = mlnb("runs").out.splitlines()
    assert header.split() == ["name", "state", "why", "on", "started", "took", "loss", "id"]
    assert [row.split()[:2] for row in rows] == [["bad", "failed"], ["good", "succeeded"]]
    assert len(mlnb("runs", "-n", "1").out.splitlines()) == 2
    told = mlnb("runs", "--json").json
    assert [one["name"] for one in told] == ["bad", "good"]
    assert all(set(one) >= SHAPE for one in told)
    assert told[1]["metrics"]["loss"] == {"step": 3, "value": 1.0, "count": 3}
    assert [one["exit_code"] for one in told] == [1, 0]
    assert told[0]["reason"].endswith("ZeroDivisionError: division by zero")


def test_show_tells_all_of_one_run(mlnb: Shell, start: Start) -> None:
    good = start("import mlnb\nmlnb.log(loss=0.25, acc=float('nan'))", name="good").wait()
    bad = start("x = 1\n1 / 0", name="bad").wait()
    lines = mlnb("show", "good").out.splitlines()
    assert lines[0].startswith("good: succeeded · ")
    assert f"  id        {good.id}" in lines
    assert f"  dir       {good.dir}" in lines
    assert any(line.split()[:2] == ["loss", "0.25"] for line in lines)
    told = mlnb("show", bad.id, "--json").json
    assert set(told) >= SHAPE
    assert told["error"]["line"] == 2 or "line 2" in told["error"]["text"]
    assert "ZeroDivisionError: division by zero" in mlnb("show", "bad").out
    assert mlnb("show", "--json", "good").json["metrics"]["acc"]["value"] == "nan"


def test_cancel_ends_several_runs(mlnb: Shell, start: Start, waiting: str) -> None:
    other = start("import time\nwhile True: time.sleep(0.01)", name="other", cpus=1)
    ended = mlnb("cancel", waiting, "other")
    assert ended.code == 0
    assert ended.out == f"wait ({waiting}) was cancelled\nother ({other.id}) was cancelled\n"
    assert {runs[waiting].state, other.state} == {"cancelled"}
    again = mlnb("cancel", "other")
    assert (again.code, again.out) == (0, f"other ({other.id}) was already cancelled\n")
    told = mlnb("cancel", "--json", "other", waiting).json
    assert [(one["id"], one["state"]) for one in told] == [(other.id, "cancelled"), (waiting, "cancelled")]


def test_cancel_of_a_name_that_is_wrong_cancels_nothing(mlnb: Shell, waiting: str) -> None:
    ended = mlnb("cancel", "wait", "wiat")
    assert ended.code == 2
    assert "Did you mean wait?" in ended.err
    assert runs[waiting].state == "running"


@pytest.mark.parametrize("command", ["show", "logs", "cancel"])
def test_an_unknown_run_is_bad_use_with_the_nearest_name(mlnb: Shell, start: Start, command: str) -> None:
    start("pass", name="resnet").wait()
    ended = mlnb(command, "resnt")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("mlnb: No run named 'resnt' in ")
    assert ended.err.endswith(". Did you mean resnet?\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nothing"], "No such option"),
        (["lgos"], "No such command 'lgos'. Did you mean 'logs'?"),
        (["ps"], "No such command 'ps'. Commands: cancel, doctor, logs, pool, rm, run, runs, show."),
        (["show"], "Missing argument 'NAME'."),
        (["cancel"], "Missing argument 'NAMES...'."),
        (["runs", "-n", "none"], "Invalid value for '-n'"),
        (["doctor", "moon"], "Unknown target moon. Available: local"),
    ],
)
def test_bad_use_is_one_line_and_exit_2(mlnb: Shell, words: list[str], message: str) -> None:
    ended = mlnb(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mlnb: {message}")
    assert ended.err.count("\n") == 1


def test_without_a_command_the_help_is_shown(mlnb: Shell) -> None:
    ended = mlnb()
    assert ended.code == 2
    for command in ("run", "runs", "show", "logs", "cancel", "doctor"):
        assert f"\n  {command} " in ended.err
    assert ended.err.startswith("Usage: mlnb ")
    assert mlnb("--help").code == 0


def test_doctor_tries_a_run(mlnb: Shell) -> None:
    ended = mlnb("doctor")
    assert ended.code == 0, ended.out + ended.err
    *lines, last = ended.out.splitlines()
    assert last == "All good. Try %%train."
    assert all(line.startswith("ok    ") for line in lines)
    assert any(line.startswith("ok    test run ") and "succeeded after " in line for line in lines)
    assert lines[-1].endswith("metrics received")
    assert mlnb("runs").out.startswith("No runs yet")
    assert mlnb("runs", "--all", "--json").json == []
    told = mlnb("doctor", "--json").json
    assert [line.removeprefix("ok").strip().split("  ")[0] for line in lines] == [one["check"] for one in told]
    assert all(one["ok"] is True and one["found"] for one in told)


def test_doctor_tells_waiting_from_not_working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_QUEUE_TIMEOUT", 0.5)
    with played(tmp_path / "slurm") as slurm:
        slurm.say(
            "sbatch", f'echo "12345|PENDING|Resources|N/A|1|1:00|1|gpu|0|0||x|" >{slurm.folder}/listed; echo 12345'
        )
        *_, last = doctor.checks("slurm", Workspace.of_process(), None)
        assert (last.name, last.ok) == ("test run", None)
        (run,) = runs
        assert (runs.observed(), runs.index.names()) == ([], [])
        assert [one.id for one in runs.observed(hidden=True)] == [run.id]
        assert last.detail.startswith("still pending: Waiting for cores and memory")
        assert f"mlnb show {run.id}" in last.detail
        assert slurm.calls("scancel") == []  # it is left there


def test_doctor_counts_from_the_start_and_a_run_that_can_not_be_cancelled_ends_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_RUN_TIMEOUT", 0.5)
    monkeypatch.setattr(cancelling, "TIMEOUT", 0.5)
    with dask.config.set({"mlnb": {"targets": {"slurm": {"poll": 0.1}}}}), played(tmp_path / "slurm") as slurm:
        now = "$(date +%s)"
        row = f"12345|RUNNING|None|{now}|{now}|1:00|1|gpu|0|0|n1|x|"
        slurm.say("sbatch", f'echo "{row}" >{slurm.folder}/listed; echo 12345')
        *_, last = doctor.checks("slurm", Workspace.of_process(), None)
        assert (last.name, last.ok) == ("test run", False)
        assert last.detail.startswith("still starting ")
        assert "did not end when it was cancelled" in last.detail


def test_doctor_says_what_does_not_work(mlnb: Shell, tmp_path) -> None:
    (tmp_path / "file").touch()
    ended = mlnb("doctor", env={"MLNB_RUNS": str(tmp_path / "file" / "runs")})
    assert ended.code == 1
    failed = [line for line in ended.out.splitlines() if line.startswith("FAIL")]
    assert [line.split("  ")[1].strip() for line in failed] == ["run folder"], "said once"
    assert "a directory" in failed[0]
    assert "test run" not in ended.out
    assert "All good" not in ended.out
    assert ended.err == ""
