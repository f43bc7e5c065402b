"""A task becomes a run directory and one job, or neither."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlnb.api import Run, runs
from mlnb.api.submit import job_start
from mlnb.api.submit.store import Store
from mlnb.api.submit.submit import check_name, new_id, resume, submit
from mlnb.capture.ship.contents import Bytes
from mlnb.errors import MlnbError, NotTrusted, StorageError, UsageError
from mlnb.node.process.identity import process_identity
from mlnb.rundir import RunDir, read_json
from mlnb.targets.base import Offer
from mlnb.targets.local import Local
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace


class Refusing(Local):
    """A target that takes no job."""

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        raise MlnbError("the queue is closed")


class Recording(Local):
    """A target that starts nothing."""

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        return {"target": "local", "pid": os.getpid(), "identity": "none"}


OFFER = Offer(Resources(1, 1, 0, 1))


def made(kind: type[Local]) -> Local:
    return kind("local", {}, Workspace.of_process())


def put(place: Local | None = None, contents: Mapping[str, Any] | None = None, **more: Any) -> RunDir:
    given = {"name": "test", "env": {}, **more}
    return submit(Task(script="x = 1"), contents or {}, place or made(Recording), OFFER, **given)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []


@pytest.fixture
def tiny_disk(runs_root: Path) -> Iterator[Path]:
    """A runs' root on a file system of 2 MB."""
    runs_root.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "x", str(runs_root)], capture_output=True)
    if done.returncode:
        pytest.skip("can't mount here")
    yield runs_root
    subprocess.run(["umount", str(runs_root)], check=True)


def test_a_run_directory_says_what_where_and_when(runs_root: Path):
    run = put(contents={"inputs/0.bin": Bytes(b"data")}, info_fields={"cell": 5})
    about = read_json(run.run)
    task = Task.from_json(read_json(run.task) or {})
    assert about is not None
    assert about["id"] == run.path.name
    assert (about["name"], about["target"], about["cell"], about["pid"]) == ("test", "local", 5, os.getpid())
    assert about["task"] == task.digest
    assert task.resources == OFFER.resources
    assert [(file.path, file.size) for file in task.files] == [("inputs/0.bin", 4)]
    assert run.script.read_text() == "x = 1"
    assert (run.inputs / "0.bin").read_bytes() == b"data"
    assert runs_root.stat().st_mode & 0o777 == 0o700


def test_a_target_that_refuses_leaves_nothing(runs_root: Path):
    with pytest.raises(MlnbError, match="the queue is closed"):
        put(made(Refusing), {"inputs/0.bin": Bytes(b"data")})
    assert files(runs_root) == []
    assert len(runs) == 0


def test_a_target_that_refuses_leaves_what_other_runs_use(runs_root: Path):
    run = put(contents={"inputs/0.bin": Bytes(b"data")})
    before = files(runs_root)
    with pytest.raises(MlnbError):
        put(
            made(Refusing),
            {"inputs/0.bin": Bytes(b"data"), "inputs/1.bin": Bytes(b"more")},
        )
    assert files(runs_root) == before
    assert (run.inputs / "0.bin").read_bytes() == b"data"


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny_disk: Path):
    run = put()
    before = files(tiny_disk)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        put(contents={"inputs/0.bin": Bytes(b"x" * 200_000), "inputs/1.bin": Bytes(b"y" * 2_000_000)})
    assert "\n" not in str(caught.value)
    assert files(tiny_disk) == before
    assert [one.id for one in runs] == [run.path.name]


def test_a_read_only_root_is_one_line(tiny_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageError, match="the file system is read-only"):
        put()


@pytest.mark.parametrize("mode", [0o777, 0o775])  # the latter is what umask 002 makes of a folder
def test_a_root_that_others_may_write_to_is_refused_with_what_to_do(runs_root: Path, mode: int):
    runs_root.mkdir()
    runs_root.chmod(mode)
    with pytest.raises(NotTrusted) as caught:
        put()
    asked = f"chmod go-w {runs_root}"
    assert str(caught.value) == (
        f"{runs_root} is writable by other users (mode {mode:o}), so no run is put there. "
        f"If you trust its content: {asked}"
    )
    assert files(runs_root) == []
    subprocess.run(asked.split(), check=True)
    put()


@pytest.mark.parametrize("name", ["a", "resnet-50", "A.b_c-1", "x" * 64])
def test_names_that_need_no_quoting_anywhere(name: str):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "a;b", "$x", "ü", "x" * 65, "a\n"])
def test_other_names_are_refused_and_nothing_is_written(runs_root: Path, name: str):
    with pytest.raises(UsageError, match="--name"):
        put(name=name)
    assert files(runs_root) == []


def test_ids_are_unique_and_need_no_quoting():
    ids = {new_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", one) for one in ids)


def test_values_of_the_environment_are_written_nowhere(runs_root: Path):
    put(env={"TOKEN": "s3cret-value"})
    assert all(b"s3cret-value" not in path.read_bytes() for path in files(runs_root))


# the store


class Counted:
    """Content that counts how often it is written."""

    def __init__(self, data: bytes) -> None:
        self.bytes, self.written = Bytes(data), 0
        self.size, self.digest = self.bytes.size, self.bytes.digest

    def write(self, path: Path) -> None:
        self.written += 1
        self.bytes.write(path)


def test_data_are_stored_once_and_shared_by_all_runs(runs_root: Path):
    data = Counted(b"x" * 1000)
    one, other = put(contents={"inputs/0": data}), put(contents={"inputs/0": data, "inputs/1": data})
    assert data.written == 1
    places = [one.inputs / "0", other.inputs / "0", other.inputs / "1"]
    assert len({path.stat().st_ino for path in places}) == 1
    assert len({run.node_zip.stat().st_ino for run in (one, other)}) == 1


def test_stored_data_cannot_be_changed_by_mistake(tmp_path: Path):
    Store(tmp_path).put(Bytes(b"x"), tmp_path / "run" / "file")
    assert (tmp_path / "run" / "file").stat().st_mode & 0o777 == 0o400


def test_a_sweep_frees_what_no_run_uses(tmp_path: Path):
    store = Store(tmp_path)
    store.put(Bytes(b"kept"), tmp_path / "one" / "file")
    store.put(Bytes(b"gone!"), tmp_path / "other" / "file")
    (tmp_path / "other" / "file").unlink()
    assert store.sweep() == 0  # it may be on its way into a run
    assert store.sweep(min_age=0) == 5
    assert store.sweep(min_age=0) == 0
    assert (tmp_path / "one" / "file").read_bytes() == b"kept"
    store.put(Bytes(b"gone!"), tmp_path / "other" / "file")
    assert (tmp_path / "other" / "file").read_bytes() == b"gone!"


def test_a_write_that_fails_stores_nothing(tmp_path: Path):
    class Broken(Counted):
        def write(self, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError):
        Store(tmp_path).put(Broken(b"whole"), tmp_path / "run" / "file")
    assert files(tmp_path) == []


def test_where_there_are_no_links_data_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    before = os.umask(0)
    try:
        Store(tmp_path).put(Bytes(b"x"), tmp_path / "run" / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "run" / "file").read_bytes() == b"x"
    assert (tmp_path / "run" / "file").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("links", [True, False])
def test_data_that_another_process_removes_meanwhile_are_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    """As `mlnb rm` does, between a look and the link."""
    Store(tmp_path).put(Bytes(b"x"), tmp_path / "old" / "file")
    (tmp_path / "old" / "file").unlink()
    swept: list[int] = []

    def link(source: Path, path: Path) -> None:
        if not swept:
            swept.append(Store(tmp_path).sweep(min_age=0))
        if not links:
            raise PermissionError(1, "Operation not permitted")
        path.hardlink_to(source)

    with monkeypatch.context() as patch:
        patch.setattr("mlnb.api.submit.store.os", SimpleNamespace(link=link))
        Store(tmp_path).put(Bytes(b"x"), tmp_path / "run" / "file")
    assert swept == [1]
    assert (tmp_path / "run" / "file").read_bytes() == b"x"


def test_stored_data_that_a_power_failure_has_cut_are_stored_again(tmp_path: Path):
    Store(tmp_path).put(Bytes(b"whole"), tmp_path / "one" / "file")
    (stored,) = (tmp_path / ".store").glob("??/*")
    stored.unlink()
    stored.touch()
    Store(tmp_path).put(Bytes(b"whole"), tmp_path / "other" / "file")
    assert (tmp_path / "other" / "file").read_bytes() == b"whole"


def test_two_sweeps_at_the_same_time_disturb_no_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for text in (b"one", b"other"):
        Store(tmp_path).put(Bytes(text), tmp_path / "run" / text.decode())
    shutil.rmtree(tmp_path / "run")
    stat, first = Path.stat, []

    def stat_after_another_sweep(path: Path, **options: Any) -> os.stat_result:
        if not first:
            first.append(1)
            first.append(Store(tmp_path).sweep(min_age=0))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", stat_after_another_sweep)
    assert Store(tmp_path).sweep(min_age=0) == 0
    assert first == [1, 8]


def test_submissions_and_sweeps_at_the_same_time_lose_no_data(tmp_path: Path):
    """Each submission stores the same two files; each end of a run removes them."""
    done = threading.Event()
    problems: list[Exception] = []

    def submit_and_remove(number: int) -> None:
        try:
            for turn in range(60):
                folder = tmp_path / f"run-{number}-{turn}"
                for text in (b"a", b"b" * 1000):
                    Store(tmp_path).put(Bytes(text), folder / str(len(text)))
                assert (folder / "1").read_bytes() + (folder / "1000").read_bytes() == b"a" + b"b" * 1000
                shutil.rmtree(folder)
        except Exception as error:
            problems.append(error)

    def sweep() -> None:
        try:
            while not done.is_set():
                Store(tmp_path).sweep(min_age=0)
        except Exception as error:
            problems.append(error)

    submitting = [threading.Thread(target=submit_and_remove, args=(number,)) for number in range(3)]
    sweeping = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in (*submitting, *sweeping):
        thread.start()
    for thread in submitting:
        thread.join()
    done.set()
    for thread in sweeping:
        thread.join()
    assert problems == []


# starting


def test_a_handle_that_cannot_be_written_ends_the_job(runs_root: Path, monkeypatch: pytest.MonkeyPatch, start: Any):
    pids: list[Any] = []

    def full(path: Path, value: Any) -> None:
        if path.name == "handle.json" and not pids:
            pids.append(value)
            raise StorageError("the disk is full")
        write_json(path, value)

    write_json = job_start.write_json
    monkeypatch.setattr(job_start, "write_json", full)
    marker = runs_root.parent / "marker"
    script = f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.05)"
    place = target()
    with pytest.raises(StorageError):
        submit(Task(script=script), {}, place, place.offer(Resources()), name="x", env={})
    assert pids
    assert len(runs) == 0
    follower = start("x = 1").wait(60)  # the fork server has served the first by now
    assert follower.state == "succeeded"
    assert not marker.exists() or process_identity(int(marker.read_text())) is None
    assert [path.name for path in runs_root.iterdir() if path.name != ".store"] == [follower.id]


def test_of_two_that_resume_a_run_at_once_one_does_and_the_other_disturbs_nothing(runs_root: Path):
    run = put()
    put_again = resume(run, made(Recording), {}, after_attempt=1)
    events = put_again.attempt(2).events(0)
    events.write_text('{"event": "started"}\n')
    with pytest.raises(UsageError, match="it is resumed or removed elsewhere"):
        resume(run, made(Recording), {}, after_attempt=1)
    assert events.exists()
    assert read_json(run.handle) is not None
    assert [attempt.number for attempt in run.attempts()] == [1, 2]


def test_a_resumption_that_is_refused_leaves_the_run_as_it_was(runs_root: Path):
    run = put()
    before = {path: path.read_bytes() for path in files(run.path)}
    with pytest.raises(MlnbError, match="the queue is closed"):
        resume(run, made(Refusing), {})
    assert {path: path.read_bytes() for path in files(run.path)} == before
    assert [attempt.number for attempt in run.attempts()] == [1]


def test_a_new_task_has_another_digest_for_other_data():
    one = put(contents={"inputs/0": Bytes(b"1")})
    other = put(contents={"inputs/0": Bytes(b"2")})
    assert Run(one).task.digest != Run(other).task.digest
    assert replace(Run(one).task, files=()) == replace(Run(other).task, files=())
