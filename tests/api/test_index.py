"""The index of runs says what the run directories say, and reads only those that have changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlnb.api import index as index_module
from mlnb.api.index import Index, record_change
from mlnb.rundir import RunDir, read_json, write_json


def add(root: Path, number: int, name: str = "a", target: str = "local") -> RunDir:
    """A run as a submission leaves it: written beside, then renamed into place."""
    run = RunDir(root / f"20260101-{number:06d}-aaaaaa")
    building = RunDir(root / f".{run.path.name}.tmp")
    building.path.mkdir(parents=True)
    write_json(building.run, {"id": run.path.name, "name": name, "target": target, "submitted": float(number)})
    building.path.rename(run.path)
    return run


def rename(run: RunDir, name: str) -> None:
    """A run that is resumed under another name."""
    write_json(run.run, {**(read_json(run.run) or {}), "name": name})
    record_change(run)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run directories whose ``run.json`` has been read."""
    seen: list[str] = []

    def counted(path: Path) -> object:
        if path.name == "run.json":
            seen.append(path.parent.name)
        return read_json(path)

    monkeypatch.setattr(index_module, "read_json", counted)
    monkeypatch.setattr(index_module, "_COARSE", -1)
    return seen


def test_runs_are_listed_newest_first(tmp_path: Path):
    for number, name in ((1, "a"), (3, "b"), (2, "a")):
        add(tmp_path, number, name)
    index = Index(tmp_path)
    assert [entry.submitted for entry in index.entries()] == [3.0, 2.0, 1.0]
    assert index.names() == ["b", "a"]
    named = index.named("a")
    assert named is not None
    assert named.submitted == 2.0
    assert index.named("c") is None


def test_a_folder_that_is_not_there_yet_has_none(tmp_path: Path):
    index = Index(tmp_path / "runs")
    assert index.entries() == ()
    add(tmp_path / "runs", 1)
    assert len(index.entries()) == 1


def test_only_what_has_changed_is_read(tmp_path: Path, reads: list[str]):
    runs = [add(tmp_path, number) for number in range(10)]
    index = Index(tmp_path)
    assert len(index.entries()) == len(reads) == 10
    index.entries()
    assert len(reads) == 10
    new = add(tmp_path, 11, "new")
    assert index.names()[0] == "new"
    assert reads[10:] == [new.path.name]
    rename(runs[3], "other")
    assert "other" in index.names()
    assert reads[11:] == [runs[3].path.name]
    shutil.rmtree(runs[4].path)
    assert len(index.entries()) == 10
    assert len(reads) == 12


def test_a_new_process_reads_what_came_since_the_last_one(tmp_path: Path, reads: list[str]):
    runs = [add(tmp_path, number) for number in range(30)]
    Index(tmp_path).entries()
    shutil.rmtree(runs[0].path)
    rename(runs[1], "renamed")
    new = add(tmp_path, 99)
    del reads[:]
    again = Index(tmp_path)
    assert len(again.entries()) == 30
    assert sorted(reads) == [runs[1].path.name, new.path.name]
    assert "renamed" in again.names()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": [1]}', '{"runs": [{"id": "x"}]}', '{"changes": "x"}'])
def test_a_cache_that_does_not_read_is_made_anew(tmp_path: Path, content: str):
    add(tmp_path, 1)
    (tmp_path / ".index").mkdir()
    (tmp_path / ".index" / "runs.json").write_text(content)
    assert [entry.submitted for entry in Index(tmp_path).entries()] == [1.0]


def test_a_folder_that_can_not_be_written_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for number in range(30):
        add(tmp_path, number)
    monkeypatch.setattr(index_module, "write_json", full)
    assert len(Index(tmp_path).entries()) == 30


def test_a_change_that_is_being_written_is_taken_when_it_is_whole(tmp_path: Path):
    run = add(tmp_path, 1)
    index = Index(tmp_path)
    assert index.names() == ["a"]
    write_json(run.run, {"name": "b", "submitted": 1.0})
    (tmp_path / ".index").mkdir(exist_ok=True)
    with (tmp_path / ".index" / "changed").open("w") as file:
        file.write(run.path.name[:5])
        file.flush()
        assert index.names() == ["a"]
        file.write(run.path.name[5:] + "\n")
    assert index.names() == ["b"]


class Runs(RuleBasedStateMachine):
    """Whatever happens in the folder, an old index and a new one say what the directories say."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        self.root = Path(os.environ["MLNB_RUNS"]) / str(folder)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.index = Index(self.root)
        self.number = 0

    @rule(name=st.sampled_from("abc"))
    def submit(self, name: str) -> None:
        self.number += 1
        add(self.root, self.number, name)

    @rule(pick=st.integers(0, 99), name=st.sampled_from("abc"))
    def resume(self, pick: int, name: str) -> None:
        if found := self.runs():
            rename(found[pick % len(found)], name)

    @rule(pick=st.integers(0, 99))
    def remove(self, pick: int) -> None:
        if found := self.runs():
            shutil.rmtree(found[pick % len(found)].path)

    @rule()
    def look(self) -> None:
        self.index.entries()

    def runs(self) -> list[RunDir]:
        return [RunDir(path) for path in sorted(self.root.glob("[0-9]*"))]

    @invariant()
    def both_say_what_is_there(self) -> None:
        there = [(run.path.name, json.loads(run.run.read_text())["name"]) for run in reversed(self.runs())]
        for index in (self.index, Index(self.root)):
            assert [(entry.id, entry.name) for entry in index.entries()] == there


@pytest.mark.usefixtures("runs_root")
class TestRuns(Runs.TestCase):
    """See :class:`Runs`."""
