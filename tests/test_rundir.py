"""The run directory reads, whoever died while writing, and is never written or trusted wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.errors import MlnbError, NotTrusted, StorageError, storage_errors
from mlnb.rundir import RunDir, check_trusted, read_json, read_lines, write_atomic, write_json

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "mlnb", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("can't mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_content_or_the_new_never_a_part(tmp_path: Path):
    path = tmp_path / "value"
    contents = [bytes([n]) * 300_000 for n in range(8)]
    write_atomic(path, contents[0])
    contents_read: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            contents_read.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(80):
        write_atomic(path, contents[turn % 8])
    done.set()
    reader.join()
    assert contents_read
    assert set(contents_read) <= set(contents)
    assert names(tmp_path) == ["value"]


def test_concurrent_writers_leave_the_complete_content_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Threads of one process, or processes of two pods, which have the same pid."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "value"
    contents = [bytes([n]) * 100_000 for n in range(4)]
    write_atomic(path, contents[0])
    contents_read, errors = set(), []

    def write(content: bytes) -> None:
        for _ in range(50):
            try:
                write_atomic(path, content)
                contents_read.add(path.read_bytes())
            except OSError as error:
                errors.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert contents_read <= set(contents)
    assert names(tmp_path) == ["value"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    write_json(tmp_path / "value", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "value", {"a": object()})
    assert read_json(tmp_path / "value") == {"a": 1}
    assert names(tmp_path) == ["value"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", None])
def test_invalid_json_is_none(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "value").write_bytes(content)
    assert read_json(tmp_path / "value") is None


def test_an_incomplete_line_is_skipped_wherever_it_was_cut(tmp_path: Path):
    rows = [{"n": 1, "text": "größe"}, {"n": 2}, {"n": 3}]
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    complete_file = b"".join(lines)
    for cut in range(len(complete_file) + 1):
        (tmp_path / "log").write_bytes(complete_file[:cut])
        cut_at_newline = complete_file[cut : cut + 1] == b"\n"  # then the last line is complete, too
        complete = complete_file[:cut].count(b"\n") + cut_at_newline
        assert read_lines(tmp_path / "log") == rows[:complete]


def test_no_file_has_no_lines(tmp_path: Path):
    assert read_lines(tmp_path / "none") == []


@root_only
@pytest.mark.parametrize("folder", [True, False])
def test_a_path_of_another_owner_is_refused(tmp_path: Path, folder: bool):
    path = tmp_path / "data"
    path.mkdir() if folder else path.write_bytes(b"")
    check_trusted(path)
    os.chown(path, 65534, -1)
    with pytest.raises(NotTrusted, match="belongs to user id 65534"):
        check_trusted(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_path_that_others_may_write_to_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "data"
    path.write_bytes(b"")
    path.chmod(mode)
    with pytest.raises(NotTrusted, match=f"mode {mode:o}"):
        check_trusted(path)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755])
def test_a_path_that_only_its_owner_may_write_to_is_trusted(tmp_path: Path, mode: int):
    path = tmp_path / "data"
    path.write_bytes(b"")
    path.chmod(mode)
    check_trusted(path)


def one_line(error: MlnbError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_a_full_disk_is_an_error_of_one_line(tiny_disk: Path):
    path = tiny_disk / "value"
    write_atomic(path, b"old")
    with pytest.raises(StorageError) as caught:
        write_atomic(path, b"x" * 200_000)
    assert one_line(caught.value) == (
        f"can't write {path}: the disk is full. Free space there or set MLNB_RUNS to another folder."
    )
    assert path.read_bytes() == b"old"
    assert names(tiny_disk) == ["value"]


def test_a_read_only_file_system_is_an_error_of_one_line(tiny_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageError, match="the file system is read-only"):
        write_atomic(tiny_disk / "value", b"new")


def test_a_path_through_a_file_is_an_error_of_one_line(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="part of the path is not a directory") as caught:
        write_atomic(tmp_path / "file" / "value", b"new")
    one_line(caught.value)


def test_errors_that_are_not_about_storage_pass_as_they_are(tmp_path: Path):
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        raise FileNotFoundError(2, "no such file")


def test_attempts_ranks_and_nodes_are_found_in_order_of_their_numbers(tmp_path: Path):
    run = RunDir(tmp_path)
    for number in (2, 1):
        run.attempt(number).path.mkdir(parents=True)
    for rank in (10, 2, 0):
        run.attempt(1).stdout(rank).touch()
        run.attempt(1).events(rank).touch()
    assert [attempt.number for attempt in run.attempts()] == [1, 2]
    assert run.attempt(1).ranks() == [0, 2, 10]
    assert run.attempt(1).nodes() == [0, 2, 10]
