"""Folders and files that other processes may touch at the same time."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mlnb import files
from mlnb.errors import StorageError
from mlnb.files import first_lines, last_lines, write_once
from mlnb.rundir import read_json


def test_of_several_that_write_a_file_once_one_is_kept(tmp_path: Path):
    path = tmp_path / "once.json"
    threads = [threading.Thread(target=write_once, args=(path, {"by": by})) for by in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = read_json(path)
    write_once(path, {"by": "later"})
    assert read_json(path) == first
    assert first is not None
    assert [file.name for file in tmp_path.iterdir()] == ["once.json"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{to", "[]"])
def test_a_file_that_its_writer_left_without_content_is_written_again(tmp_path: Path, content: str):
    path = tmp_path / "once.json"
    path.write_text(content)
    write_once(path, {"by": "me"})
    assert read_json(path) == {"by": "me"}


def test_a_file_is_written_once_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    for by in ("first", "second"):
        write_once(tmp_path / "once.json", {"by": by})
    assert read_json(tmp_path / "once.json") == {"by": "first"}


def test_a_file_that_can_not_be_written_is_an_error_of_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory"):
        write_once(tmp_path / "file" / "once.json", {})


def test_only_the_ends_of_a_long_file_are_read(tmp_path: Path):
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"line": number}) + "\n" for number in range(10_000)))
    first, last = first_lines(path, 1000), last_lines(path, 1000)
    assert (first[0], last[-1]) == ({"line": 0}, {"line": 9999})
    assert 50 < len(first) < 100
    assert 50 < len(last) < 100
    assert last_lines(path, 10**9)[0] == {"line": 0}
    assert first_lines(tmp_path / "none") == last_lines(tmp_path / "none", 10) == []
