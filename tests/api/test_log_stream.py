"""What a run prints can be followed: whole, in order, from one attempt to the next."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.api import log_stream
from mlnb.api.log_stream import follow_output
from mlnb.rundir import RunDir
from tests.conftest import Start


def test_text_that_is_not_ascii_is_whole_however_it_came(start: Start):
    script = (
        "import sys, time\n"
        "for byte in 'größer 漢字 🙂\\n'.encode():\n"
        "    sys.stdout.buffer.write(bytes([byte])); sys.stdout.flush(); time.sleep(0.03)\n"
    )
    assert "".join(piece.text for piece in follow_output(start(script))) == "größer 漢字 🙂\n"


class Printing(SimpleNamespace):
    """A run that prints ``chunks`` (attempt, bytes) one by one, each while it is being looked at."""

    def __init__(self, folder: Path, chunks: list[tuple[int, bytes]]) -> None:
        super().__init__(directory=RunDir(folder), chunks=list(chunks))

    @property
    def done(self) -> bool:
        if not self.chunks:
            return True
        number, data = self.chunks.pop(0)
        attempt = self.directory.attempt(number)
        attempt.path.mkdir(parents=True, exist_ok=True)
        with attempt.stdout(0).open("ab") as file:
            file.write(data)
        return False


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_INTERVAL", 0.0)


@given(text=st.text(max_size=20), cuts=st.lists(st.integers(0, 80), max_size=4))
def test_any_text_cut_anywhere_is_the_text(tmp_path_factory: pytest.TempPathFactory, text: str, cuts: list[int]):
    data = text.encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [(1, data[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join(piece.text for piece in follow_output(Printing(tmp_path_factory.mktemp("run"), chunks))) == text


def test_the_rest_of_an_attempt_comes_before_the_next(tmp_path: Path):
    run = Printing(tmp_path, [(1, b"one "), (1, b"two ")])
    seen = follow_output(run)
    assert next(seen) == ("one ", False)
    late = run.directory.attempt(1).stdout(0)
    late.write_bytes(late.read_bytes() + b"rest ")
    run.chunks = [(2, b"three "), (3, b"four")]
    assert "".join(piece.text for piece in seen) == "rest three four"


def test_it_begins_with_the_newest_attempt(tmp_path: Path):
    assert "".join(piece.text for piece in follow_output(Printing(tmp_path, [(1, b"old")]))) == "old"
    assert "".join(piece.text for piece in follow_output(Printing(tmp_path, [(2, b"new"), (2, b"er")]))) == "newer"


def test_a_character_that_stays_torn_is_shown_as_such(tmp_path: Path):
    assert (
        "".join(piece.text for piece in follow_output(Printing(tmp_path, [(1, "ö".encode()[:1]), (2, b"next")])))
        == "\ufffdnext"
    )
