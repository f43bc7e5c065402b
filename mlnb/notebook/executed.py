"""Executed text: the source of what the session has defined by ``exec`` and ``eval``, which Python doesn't keep."""

from __future__ import annotations

import re
import sys
from typing import Any

LIMIT = 256
"""Texts that are kept; the oldest are given up first."""

_DEFINES = re.compile(rb"\b(?:def|class|lambda)\b")


class ExecutedTexts:
    """An audit hook (``sys.addaudithook``) that keeps the texts with definitions that the notebook compiles itself."""

    def __init__(self) -> None:
        self._texts: dict[bytes, None] = {}
        self._installed = False

    def install(self) -> None:
        """Keep texts from now on. Python can't remove an audit hook."""
        if not self._installed:
            self._installed = True
            sys.addaudithook(self)

    @property
    def texts(self) -> list[str]:
        """The texts, oldest first."""
        return [text.decode("utf-8", "replace") for text in list(self._texts)]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python calls this for every event."""
        if event != "compile" or not isinstance(arguments[0], (bytes, str)):
            return
        if sys._getframe(1).f_globals.get("__name__") != "__main__":
            return  # a library compiles something, or IPython a cell
        text = arguments[0].encode("utf-8", "replace") if isinstance(arguments[0], str) else arguments[0]
        if _DEFINES.search(text):
            self._texts.pop(text, None)
            self._texts[text] = None
            if len(self._texts) > LIMIT:
                del self._texts[next(iter(self._texts))]


executed = ExecutedTexts()
"""Those of this process."""
