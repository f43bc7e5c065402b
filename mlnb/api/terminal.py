"""What a person sees of printed text: carriage returns, cursor movements and clearing are carried out, colours stay."""

from __future__ import annotations

import re

from mlnb.node.rank.display import CLEAR_BEFORE_NEXT

_CONTROL = re.compile(r"[\r\b\x1b]")
_TOKEN = re.compile(
    r"(?P<text>[^\r\n\b\x1b]+)"
    r"|(?P<newline>\r*\n)|(?P<back>\x08)|(?P<start>\r)"
    r"|\x1b\[(?P<numbers>[0-9;?]*)[ -/]*(?P<kind>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]?|\x1b[\[\]]"
)
_RESET = "\x1b[0m"
_BEGUN = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|\][^\x07\x1b]*)?\Z")
"""The beginning of a sequence whose end is not there yet."""

_ROWS = 1000
"""Lines that a screen that is fed for long keeps."""

_REDRAWN = re.compile(
    r"\r[^\r\n\x1b]*(?=\r[^\r\n\x1b]*[\r\n])"
    + "".join(
        rf"|\n{{{depth}}}\r[^\r\n\x1b]*(?:\x1b\[A){{{depth}}}(?=\n{{{depth}}}\r[^\r\n\x1b]*(?:\x1b\[A){{{depth}}})"
        for depth in (1, 2, 3)
    )
)
"""A progress bar that is drawn again in the same line; also one below others, as tqdm draws nested ones."""


def as_shown(text: str) -> str:
    """Printed text as a terminal, or a notebook's output, shows it."""
    if not _CONTROL.search(text):
        return text
    screen = _Screen()
    while text.endswith(CLEAR_BEFORE_NEXT):
        text = text.removesuffix(CLEAR_BEFORE_NEXT)
    for token in _TOKEN.finditer(text):
        screen.put(token)
    return screen.text


def newest_drawn(text: str) -> str:
    """Printed text with only the last of each series of pictures of one progress bar, which is much shorter."""
    return _REDRAWN.sub("", text) if "\r" in text else text


class Screen:
    """What is shown of text that arrives in pieces; of long text, the last lines."""

    def __init__(self) -> None:
        self._screen, self._pending = _Screen(), ""

    def feed(self, text: str) -> None:
        """Print more text."""
        text = self._pending + text
        end = len(text)
        while text.endswith(CLEAR_BEFORE_NEXT, 0, end):
            end -= len(CLEAR_BEFORE_NEXT)
        if end == len(text) and (begun := _BEGUN.search(text)):
            end = begun.start()
        self._pending = text[end:]
        for token in _TOKEN.finditer(text, 0, end):
            self._screen.put(token)
        self._screen.forget(_ROWS)

    @property
    def text(self) -> str:
        """What is shown, without blank space after it."""
        return self._screen.text.rstrip()


class _Line:
    """A line: its characters, and the colour of each if any has one."""

    def __init__(self) -> None:
        self.text = ""
        self.styles: list[str] | None = None

    def write(self, column: int, text: str, style: str) -> None:
        """Replace the characters from ``column`` on by ``text``."""
        filled = self.text.ljust(column)
        if style or self.styles is not None:
            styles = (self.styles or []) + [""] * (column - len(self.styles or []))
            styles += [""] * (len(filled) - len(styles))
            self.styles = styles[:column] + [style] * len(text) + styles[column + len(text) :]
        self.text = filled[:column] + text + filled[column + len(text) :]

    def erase(self, start: int, end: int | None) -> None:
        """Erase the characters from ``start`` to ``end``."""
        if end is None or end >= len(self.text):
            self.text = self.text[:start]
            self.styles = self.styles[:start] if self.styles is not None else None
        else:
            self.write(start, " " * (end - start), "")

    @property
    def shown(self) -> str:
        """The line with its colours."""
        if self.styles is None or not any(self.styles):
            return self.text
        parts, before = [], ""
        for character, style in zip(self.text, self.styles, strict=True):
            if style != before:
                parts.append((_RESET if before else "") + style)
                before = style
            parts.append(character)
        return "".join(parts) + (_RESET if before else "")


class _Screen:
    """All lines, and the cursor."""

    def __init__(self) -> None:
        self._lines = [_Line()]
        self._row = self._column = 0
        self._style = ""

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(line.shown for line in self._lines)

    def forget(self, rows: int) -> None:
        """Keep the last lines only, if there are many more."""
        if len(self._lines) > 2 * rows:
            self._row = max(0, self._row - (len(self._lines) - rows))
            del self._lines[:-rows]

    def put(self, token: re.Match[str]) -> None:
        """Carry out one token."""
        if token["text"] is not None:
            self._lines[self._row].write(self._column, token["text"], self._style)
            self._column += len(token["text"])
        elif token["newline"] is not None:
            self._move(self._row + 1, 0)
        elif token["start"] is not None:
            self._column = 0
        elif token["back"] is not None:
            self._column = max(0, self._column - 1)
        elif token["kind"] is not None:
            self._control(token["kind"], token["numbers"])

    def _move(self, row: int, column: int) -> None:
        self._row, self._column = max(0, row), max(0, column)
        while self._row >= len(self._lines):
            self._lines.append(_Line())

    def _control(self, kind: str, numbers: str) -> None:
        values = [int(part) if part.isdigit() else 0 for part in numbers.split(";")]
        count = max(1, values[0])
        if kind == "m":
            self._style = "" if numbers.strip("0;") == "" else f"{self._style}\x1b[{numbers}m"
        elif kind in "ABEF":
            row = self._row + (-count if kind in "AF" else count)
            self._move(row, 0 if kind in "EF" else self._column)
        elif kind in "CDG":
            self._column = max(0, count - 1 if kind == "G" else self._column + (count if kind == "C" else -count))
        elif kind in "Hf":
            self._move(count - 1, max(1, values[1] if len(values) > 1 else 1) - 1)
        elif kind == "K":
            line = self._lines[self._row]
            line.erase(0 if values[0] else self._column, self._column if values[0] == 1 else None)
        elif kind == "J" and values[0] >= 2:
            self._lines, self._row, self._column = [_Line()], 0, 0
        elif kind == "J":
            self._lines[self._row].erase(self._column, None)
            del self._lines[self._row + 1 :]
