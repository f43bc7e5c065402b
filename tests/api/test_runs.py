"""Runs are found by name, id and number; their states are true."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import Run, Runs, runs
from mlnb.api.submit.submit import resume, submit
from mlnb.errors import StorageError, UsageError
from mlnb.node.process.identity import pid_namespace
from mlnb.render.runs_table import text_table
from mlnb.rundir import RunDir, read_json, read_lines
from mlnb.targets.base import Offer
from mlnb.targets.local import Local, cores
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.waiting import until


class Silent(Local):
    """A target that starts nothing, and names a process as the run's that there is not."""

    def __init__(self) -> None:
        super().__init__("local", {}, Workspace.of_process())
        self.handle = {"target": "local", "pid": 0, "identity": f"{pid_namespace()}:none", "attempt": 1}

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        return self.handle


def put(name: str = "test", place: Local | None = None, **about: Any) -> Run:
    offer = Offer(Resources(1, 1, 0, 1))
    return Run(submit(Task(script=""), {}, place or Silent(), offer, name=name, env={}, info_fields=about))


# finding


def test_newest_first_by_number_name_and_id(runs_root: Path):
    now = time.time()
    old, other, new = put("net", submitted=now - 3), put("other", submitted=now - 2), put("net", submitted=now - 1)
    assert [run.id for run in runs] == [new.id, other.id, old.id]
    assert len(runs) == 3
    assert runs[0].id == runs["net"].id == new.id
    assert runs[-1].id == runs[old.id].id == old.id
    assert runs["other"] is runs[1]
    assert repr(runs) == f"<mlnb.runs: 3 in {runs_root}>"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("resnte", ["'resnte'", "Did you mean resnet?"]),
        ("xyz", ["'xyz'", "`mlnb runs`"]),
        ("../x", ["'../x'"]),
        ("", ["''"]),
        (5, ["Run number 5", "there are 1"]),
        (-2, ["Run number -2"]),
    ],
)
def test_a_run_that_there_is_not_is_named_with_the_nearest(key: str | int, words: list[str]):
    put("resnet")
    with pytest.raises(UsageError) as caught:
        runs[key]
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_without_a_folder_there_are_no_runs(runs_root: Path):
    assert list(runs) == []
    assert len(runs) == 0


def test_what_is_no_run_is_none(runs_root: Path):
    run = put()
    (runs_root / "20260101-000000-abcdef").mkdir()
    (runs_root / ".20260101-000000-abcdef.tmp").mkdir()
    (runs_root / "notes.txt").touch()
    assert [one.id for one in Runs()] == [run.id]


def test_a_directory_that_was_damaged_does_not_hide_the_others(runs_root: Path):
    good, bad = put("good"), put("bad")
    bad.directory.run.write_bytes(b"{torn")
    found = Runs().observed()
    assert {run.id for run in found} == {good.id, bad.id}
    assert {run.name for run in found} == {"good", bad.id}


# states


def test_a_run_whose_process_is_gone_without_an_account_is_lost():
    run = put()
    assert run.state == "lost"
    assert "without a result" in run.reason
    assert run.done
    assert run.exit_code is None


def test_a_run_that_is_being_submitted_is_pending_and_lost_only_after_a_while():
    run = put()
    run.directory.handle.unlink()
    assert (run.state, run.reason) == ("pending", "being submitted")
    about = json.loads(run.directory.run.read_text())
    run.directory.run.write_text(json.dumps({**about, "submitted": time.time() - 3600}))
    old = time.time() - 3600
    os.utime(run.directory.attempt(1).path, (old, old))
    assert run.state == "lost"
    assert "submission was interrupted" in run.reason


def test_a_cancelled_run_that_left_no_account_is_cancelled():
    run = put()
    run.directory.cancel.write_text('{"by": "me on here"}')
    assert run.state == "cancelled"
    assert "me on here" in run.reason


@pytest.mark.parametrize("result", [b"", b"{", b"[]"])
def test_a_torn_result_is_no_result(result: bytes):
    run = put()
    run.directory.result.write_bytes(result)
    assert run.state == "lost"


def test_a_run_of_a_target_that_is_no_more_says_so():
    run = put()
    about = json.loads(run.directory.run.read_text())
    run.directory.run.write_text(json.dumps({**about, "target": "gone"}))
    assert run.state == "pending"
    assert "Unknown target gone. Available: " in run.reason


def test_states_in_their_order(start, tmp_path: Path):
    go = tmp_path / "go"
    run = start(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
    seen = [run.state]
    while run.state != "running":
        seen.append(run.state)
        assert len(seen) < 100_000
    go.touch()
    while not run.done:
        seen.append(run.state)
    order = ["pending", "starting", "running", "succeeded"]
    places = [order.index(state) for state in [*seen, run.state]]
    assert places == sorted(places)
    assert run.state == "succeeded"


def test_a_waiting_run_says_who_holds_what_it_waits_for_and_how_many_are_ahead(start):
    forever = "import time\nwhile True: time.sleep(0.05)"
    first = start(forever, name="holder", cpus=cores())
    until(lambda: first.state == "running")
    second, third = start("", cpus=cores()), start("", cpus=cores())
    until(lambda: second.state == "pending" and "using" in second.reason)
    assert second.reason == "Waiting for CPU cores; holder is using them"
    until(lambda: third.reason == "Waiting for its turn: 1 run ahead; holder is running")
    first.cancel()
    assert second.wait(60).state == third.wait(60).state == "succeeded"


def test_forty_runs_run_in_order_and_never_hold_more_than_there_is(start):
    cpus = [cores() if n % 4 == 0 else 1 for n in range(40)]
    many = [start("", name=f"n{n}", cpus=count) for n, count in enumerate(cpus)]
    for run in many:
        run.wait(120)
    assert [run.state for run in many] == ["succeeded"] * 40
    begun, ended = [], []
    for run in many:
        times = {event["event"]: event["t"] for event in read_lines(run.directory.attempt(1).events(0))}
        begun.append(times["starting"])
        ended.append(times["rank-ended"])
    for n in range(40):
        others = [cpus[m] for m in range(40) if m != n and begun[m] <= begun[n] < ended[m]]
        assert cpus[n] + sum(others) <= cores()
    for n in range(0, 40, 4):  # one that needs all cores comes behind all before it and in front of all behind it
        assert all(end <= begun[n] for end in ended[:n])
        assert all(ended[n] <= start for start in begun[n + 1 :])


# reading


def test_a_run_reads_the_same_in_any_process(start):
    run = start("import mlnb\nfor n in range(1, 4): mlnb.log(step=n, loss=1 / n)\nprint('out')").wait(60)
    other = Run(RunDir(run.dir))
    assert other.to_json() == run.to_json()
    data = run.to_json()
    assert (data["state"], data["exit_code"], data["name"]) == ("succeeded", 0, "test")
    assert data["metrics"]["loss"] == {"step": 3, "value": 1 / 3, "count": 3}
    json.dumps(data, allow_nan=False)


def test_nan_and_infinity_are_words_in_json(start):
    run = start("import mlnb\nmlnb.log(a=float('nan'), b=float('-inf'))").wait(60)
    data = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert (data["metrics"]["a"]["value"], data["metrics"]["b"]["value"]) == ("nan", "-inf")


def test_waiting_ends_after_its_time_and_the_run_goes_on(start):
    run = start("import time\nwhile True: time.sleep(0.05)")
    with pytest.raises(TimeoutError, match="it continues"):
        run.wait(0.05)
    assert not run.done


@pytest.mark.parametrize(("rank", "stream"), [(1, "out"), (-1, "out"), (0, "what")])
def test_logs_of_what_there_is_not_are_refused(rank: int, stream: str):
    with pytest.raises(UsageError):
        put().logs(rank, stream)


def test_what_was_printed_in_other_encodings_still_reads(start):
    run = start("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe ok\\n')").wait(60)
    assert run.logs(0, "out").endswith(" ok\n")


def test_a_run_that_has_ended_can_be_deleted(start: Any) -> None:
    run = start("print('x' * 100)").wait(60)
    assert run.remove() > 0
    assert not run.dir.exists()
    assert list(runs) == []


def test_of_two_that_delete_a_run_and_one_that_resumes_it_one_does(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("print(1)").wait(60)
    claimed = run.directory.attempt(2).path
    claimed.mkdir()  # as another process that resumes it, or removes it, a moment after this one has looked
    monkeypatch.setattr(type(run), "attempts", 1)
    with pytest.raises(UsageError, match=r"^can't remove test: it is resumed or removed elsewhere"):
        run.remove()
    claimed.rmdir()
    other = Run(run.directory)
    assert other.done
    assert run.remove() > 0
    for late in (lambda: other.remove(), lambda: resume(run.directory, target(), {})):
        with pytest.raises(UsageError, match="that run has been removed"):
            late()
    assert not run.dir.exists()  # nor has it come back


def test_a_deletion_that_fails_leaves_the_run_as_it_was(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("print(1)").wait(60)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match="read-only"):
            run.remove()
    assert (run.attempts, Run(run.directory).state) == (1, "succeeded")


def test_what_an_interrupted_deletion_has_left_goes_with_the_next(start: Any) -> None:
    run = start("print(1)").wait(60)
    left = run.dir.with_name(".20260101-000000-left.removed")
    (left / "outputs").mkdir(parents=True)
    assert len(runs) == 1
    run.remove()
    assert not left.exists()


def test_a_run_that_goes_on_is_not_deleted(start: Any) -> None:
    run = start("import time\ntime.sleep(60)")
    with pytest.raises(UsageError, match="cancel it first"):
        run.remove()
    assert run.dir.exists()


BROKEN = {
    "a result that is none": ("result.json", '{"reason": "?"}'),
    "a run.json that is none": ("run.json", '{"schema": 2, "name": 7, "target": [], "node": 3}'),
    "an attempt that is no number": ("result.json", '{"state": "succeeded", "attempt": "two"}'),
    "a task that is none": ("task.json", '{"script": "", "resources": 3}'),
    "metrics that are none": ("attempts/001/rank-0.metrics", '{"n": 1, "names": [[]]}\n' + 24 * "x" + "\n"),
}


@pytest.mark.parametrize(("file", "text"), BROKEN.values(), ids=BROKEN)
def test_one_broken_run_keeps_no_other_from_being_listed(runs_root: Path, file: str, text: str):
    good, broken = put("good", submitted=time.time() - 9), put("broken")
    (broken.dir / file).write_text(text)
    newest = Runs().observed()
    assert {run.id for run in newest} == {good.id, broken.id}
    assert {run.id: run for run in newest}[good.id].state == "lost"
    table = text_table(newest)
    assert good.id in table
    assert broken.id in table
    assert {run.to_json()["id"] for run in newest} == {good.id, broken.id}


def test_a_run_that_can_not_be_read_now_is_not_taken_for_ended(runs_root: Path, monkeypatch: pytest.MonkeyPatch):
    run = put()

    def failing(*_: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Local, "poll", failing)
    assert run.state == "pending"
    assert "can't be read now (OSError: [Errno 5] Input/output error)" in run.reason


def test_a_file_that_was_replaced_elsewhere_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, failures = tmp_path / "result.json", [errno.ESTALE, errno.ESTALE]
    path.write_text('{"state": "succeeded"}')
    read_bytes = Path.read_bytes

    def stale(path: Path) -> bytes:
        if failures:
            raise OSError(failures.pop(), "Stale file handle")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert read_json(path) == {"state": "succeeded"}
