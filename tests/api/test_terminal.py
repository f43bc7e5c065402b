"""What a run printed is read as a terminal, or a notebook's output, shows it."""

from __future__ import annotations

import pytest

from mlnb.api.terminal import as_shown
from mlnb.node.rank.display import CLEAR, CLEAR_BEFORE_NEXT

RED, RESET = "\x1b[31m", "\x1b[0m"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        (" 10%\r 50%\r100%\n", "100%\n"),
        ("longer\rab", "abnger"),
        ("longer\r\x1b[Kab\n", "ab\n"),
        ("ab\bc", "ac"),
        ("first\nsecond\x1b[A\rFIRST\n", "FIRST\nsecond"),
        ("a\nb\nc\x1b[2F1\n", "1\nb\nc"),
        ("abc\x1b[1Kd", "   d"),
        (f"old\n{CLEAR}new\n", "new\n"),
        (f"old\n{CLEAR_BEFORE_NEXT}new\n", "new\n"),
        (f"old\n{CLEAR_BEFORE_NEXT}", "old\n"),
        (f"old\n{CLEAR}", ""),
        (f"{RED}red{RESET} plain\n", f"{RED}red{RESET} plain\n"),
        (f"{RED}red\rb{RESET}lue\n", f"{RED}b{RESET}lue\n"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b[?25lhidden cursor\x1b[?25h\n", "hidden cursor\n"),
        ("tqdm 1\n\x1b[Atqdm 2\n\x1b[A", "tqdm 2\n"),
    ],
)
def test_text(printed: str, shown: str):
    assert as_shown(printed) == shown
