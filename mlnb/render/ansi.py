"""Text with the colours of terminals (ECMA-48, "select graphic rendition") as HTML, or without them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m")
_COLOURS = ("#3e424d", "#e75c58", "#00a250", "#ddb62b", "#208ffb", "#d160c4", "#60c6c8", "#c5c1b4")
_BRIGHT = ("#282c36", "#b22b31", "#007427", "#b27d12", "#0065ca", "#a03196", "#258f8f", "#a1a6b2")
_SWITCHES = {1: "font-weight:bold", 3: "font-style:italic", 4: "text-decoration:underline"}


def without_colours(text: str) -> str:
    """The text alone."""
    return _SEQUENCE.sub("", text)


def to_html(text: str) -> str:
    """The text as HTML, with its colours."""
    parts: list[str] = []
    styles: dict[str, str] = {}
    position = 0
    for match in _SEQUENCE.finditer(text):
        parts.append(_span(text[position : match.start()], styles))
        position = match.end()
        _apply(iter([int(number or 0) for number in match[1].split(";")]), styles)
    return "".join([*parts, _span(text[position:], styles)])


def _span(text: str, styles: dict[str, str]) -> str:
    escaped = html.escape(text, quote=False)
    style = ";".join(styles.values())
    return f'<span style="{style}">{escaped}</span>' if style and text else escaped


def _apply(codes: Iterator[int], styles: dict[str, str]) -> None:
    """Carry out the numbers of one sequence."""
    for code in codes:
        if code == 0:
            styles.clear()
        elif code in _SWITCHES:
            styles[str(code)] = _SWITCHES[code]
        elif code in (22, 23, 24):
            styles.pop(str(code - 20 if code > 22 else 1), None)
        elif code in (38, 48):
            _set(styles, code, _extended(codes))
        elif code in (39, 49):
            styles.pop("foreground" if code == 39 else "background", None)
        elif code // 10 in (3, 4, 9, 10) and code % 10 < 8:
            _set(styles, 38 if code // 10 in (3, 9) else 48, (_COLOURS if code < 90 else _BRIGHT)[code % 10])


def _set(styles: dict[str, str], code: int, colour: str) -> None:
    if code == 38:
        styles["foreground"] = f"color:{colour}"
    else:
        styles["background"] = f"background-color:{colour}"


def _extended(codes: Iterator[int]) -> str:
    """A colour of 256 (``5;n``) or of all (``2;r;g;b``)."""
    if next(codes, 0) == 2:
        red, green, blue = (min(255, next(codes, 0)) for _ in range(3))
        return f"rgb({red},{green},{blue})"
    number = next(codes, 0)
    if number < 16:
        return (_COLOURS if number < 8 else _BRIGHT)[number % 8]
    if number >= 232:
        level = 8 + 10 * (min(number, 255) - 232)
        return f"rgb({level},{level},{level})"
    steps = [(number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6]
    return "rgb({},{},{})".format(*(55 + 40 * step if step else 0 for step in steps))
