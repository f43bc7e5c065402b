"""The end of what a rank printed, read as it grows: the lines that a terminal would show now."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.rundir import RunDir


class Printing:
    """A run whose rank 0 prints what the test says."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(RunDir(folder / "20261121-000000-abcdef"))
        self._attempt = self.run.directory.attempt(1)
        self._attempt.path.mkdir(parents=True)

    def print(self, text: str | bytes, *, error: bool = False) -> str:
        """Print more; the last lines then."""
        path = self._attempt.stderr(0) if error else self._attempt.stdout(0)
        with path.open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return self.run.tail(3)


@pytest.fixture
def rank(tmp_path: Path) -> Printing:
    return Printing(tmp_path)


def test_the_last_lines_are_those_of_the_moment(rank: Printing):
    assert rank.print("one\n") == "one"
    assert rank.print("two\nthree\nfour\n") == "two\nthree\nfour"
    assert rank.print(" 10%|█  ") == "three\nfour\n 10%|█"
    assert rank.print("\r 20%|██ ") == "three\nfour\n 20%|██"
    assert rank.print("warned\n", error=True).endswith("\nwarned")


def test_what_is_cut_between_two_reads_is_whole_in_the_end(rank: Printing):
    bar = "\r100%|██".encode()
    rank.print(bar[:-1])
    assert rank.print(bar[-1:]) == "100%|██"
    assert rank.print("\n\x1b[3") == "100%|██"
    assert rank.print("1mred\x1b[0m") == "100%|██\n\x1b[31mred\x1b[0m"


def bars(batches: int, *, epochs: int = 2) -> str:
    """What tqdm prints for nested bars."""
    from tqdm import tqdm

    printed = StringIO()
    for _ in tqdm(range(epochs), desc="epochs", file=printed, ascii=True, ncols=60):
        for _ in tqdm(range(batches), desc="batches", file=printed, leave=False, mininterval=0, ascii=True, ncols=60):
            pass
    return printed.getvalue()


def test_the_outer_of_nested_bars_is_shown_however_long_the_inner_one_has_been_drawn(rank: Printing):
    pytest.importorskip("tqdm")
    printed = bars(20_000, epochs=1)
    assert len(printed) > 2**20
    middle = printed[: printed.rindex("\x1b[A\n\r") + 3]
    outer, inner = rank.print(middle).split("\n")
    assert outer.startswith("epochs:   0%|")
    assert inner.startswith("batches: ")
    assert rank.print(printed[len(middle) :]).startswith("epochs: 100%|")
    assert Run(rank.run.directory).tail(3) == rank.run.tail(3)


def test_a_long_line_that_is_drawn_again_and_again_is_one(rank: Printing):
    printed = "".join(f"\r{step / 100:7.1f}%|{'█' * 40}" for step in range(10_001))
    assert rank.print(f"before\n{printed}") == f"before\n  100.0%|{'█' * 40}"
