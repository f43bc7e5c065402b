"""Completion of the options on a ``%%train`` or ``%pool start`` line."""

from __future__ import annotations

import re
from typing import Any

from mlnb.api import completion, runs
from mlnb.api.pools import POOL_OPTIONS, for_pools


def install(shell: Any) -> None:
    """Complete options and their values in ``shell``."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
    def train_options(context: Any) -> dict[str, Any]:
        line = context.full_text.split("\n")[context.cursor_line]
        texts = candidates(line[: context.cursor_position]) if context.cursor_line == 0 else []
        # IPython replaces only its own token, which begins after the "=" of --flag=value
        argument = line[: context.cursor_position].rpartition(" ")[2]
        texts = [text.removeprefix(argument.removesuffix(context.token)) for text in texts]
        return {"completions": [SimpleCompletion(text, type="option") for text in texts], "suppress": bool(texts)}

    shell.Completer.custom_matchers.append(train_options)


def candidates(line: str) -> list[str]:
    """The completions of the last argument of ``line``, which is a magic's line up to the cursor."""
    match = re.match(r"(?P<magic>%%train|%pool\s+start)\s(?P<before>.*\s)?(?P<last>\S*)$", line)
    if match is None:
        return []
    before = (match["before"] or "").split()
    if match["magic"] == "%%train":
        return completion.candidates(before, match["last"], runs)
    return completion.candidates(before, match["last"], runs, POOL_OPTIONS, for_pools)
