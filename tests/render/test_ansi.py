"""Colours of terminals as HTML."""

from __future__ import annotations

import pytest

from mlnb.render.ansi import to_html, without_colours


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("\x1b[31mred\x1b[0m plain", '<span style="color:#e75c58">red</span> plain'),
        ("\x1b[1;91mbold", '<span style="font-weight:bold;color:#b22b31">bold</span>'),
        ("\x1b[44mblue\x1b[49m", '<span style="background-color:#208ffb">blue</span>'),
        ("\x1b[38;5;196mx", '<span style="color:rgb(255,0,0)">x</span>'),
        ("\x1b[38;2;1;2;3mx\x1b[39my", '<span style="color:rgb(1,2,3)">x</span>y'),
        ("\x1b[mx", "x"),
    ],
)
def test_text(text: str, html: str):
    assert to_html(text) == html


def test_without_colours():
    assert without_colours("\x1b[31mred\x1b[0m") == "red"
