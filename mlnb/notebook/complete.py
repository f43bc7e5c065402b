"""Completion of the options on a ``%%train`` line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from mlnb.api import runs
from mlnb.api.submit.options import OPTIONS
from mlnb.targets.registry import names


def install(shell: Any) -> None:
    """Complete options and their values in ``shell``."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
    def train_options(context: Any) -> dict[str, Any]:
        line = context.full_text.split("\n")[context.cursor_line]
        found = candidates(line[: context.cursor_position]) if context.cursor_line == 0 else []
        return {"completions": [SimpleCompletion(text, type="option") for text in found], "suppress": bool(found)}

    shell.Completer.custom_matchers.append(train_options)


def candidates(line: str) -> list[str]:
    """What could stand at the end of ``line``, the part of a ``%%train`` line left of the cursor."""
    match = re.match(r"%%train\s(?:.*\s)?(?P<last>\S*)$", line)
    if match is None:
        return []
    words, last = line.split(), match["last"]
    before = words[-2] if last and len(words) > 1 else words[-1]
    values: dict[str, Callable[[], Iterable[str]]] = {
        "--on": names,
        "--parallel": lambda: ["auto", "none"],
        "--resume": runs.index.names,
    }
    if before in values:
        return [value for value in dict.fromkeys(values[before]()) if value.startswith(last)]
    if any(option.flag == before and option.parse for option in OPTIONS):
        return []
    given = set(words)
    flags = [option.flag for option in OPTIONS if option.many or option.flag not in given - {last}]
    return [flag for flag in flags if flag.startswith(last)]
