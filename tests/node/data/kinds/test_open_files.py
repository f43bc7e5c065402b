"""Open files travel as path, mode and position, and are never emptied."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from mlnb.node.data.kinds import open_files
from tests.node.data.kinds.test_tensors import travel


def test_a_file_that_is_written_goes_on(tmp_path: Path):
    with (tmp_path / "log.txt").open("w", buffering=1) as file:
        file.write("one\n")
        got = travel(file)
        assert (got.mode, got.line_buffering, got.tell()) == ("w", True, 4)
        got.write("two\n")
        got.close()
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("buffering", [0, -1])
def test_binary_files(tmp_path: Path, buffering: int):
    (tmp_path / "data").write_bytes(b"abcdef")
    with (tmp_path / "data").open("r+b", buffering=buffering) as file:
        file.read(3)
        got = travel(file)
        assert type(got) is type(file)
        assert got.read() == b"def"
        got.close()


def test_a_closed_file_stays_closed(tmp_path: Path):
    with (tmp_path / "log.txt").open("w") as file:
        file.write("text")
    got = travel(file)
    assert got.closed
    assert got.name == str(tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text() == "text"


def test_files_that_can_not_travel(tmp_path: Path):
    with (tmp_path / "gone").open("w") as file:
        assert open_files.can_travel(file)
        (tmp_path / "gone").unlink()
        assert not open_files.can_travel(file)
    (tmp_path / "dos").write_bytes(b"a\r\nb\r\n")
    with (tmp_path / "dos").open() as file:
        assert not open_files.can_travel(file), "how it treats line ends can't be seen"
    with (tmp_path / "dos").open("w") as file:
        file.write("a\nb\n")
    with (tmp_path / "dos").open() as file:
        next(iter(file))
        assert not open_files.can_travel(file), "while it is iterated, its position can't be told"


def test_the_live_file_goes_on_where_the_run_has_left_it(tmp_path: Path):
    path = tmp_path / "log.txt"
    with path.open("w") as live:
        live.write("one\n")
        live.flush()
        path.write_text("one\ntwo\n")
        position: Any = 8
        open_files.set_position(live, position)
        live.write("three\n")
    assert path.read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("kind", [io.StringIO, io.BytesIO])
def test_a_closed_file_in_memory(kind: Any):
    file = kind()
    file.close()
    got = travel(file)
    assert type(got) is kind
    assert got.closed
