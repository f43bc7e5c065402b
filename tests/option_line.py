"""Reading the options of a ``%%train`` line, as the magic does."""

from __future__ import annotations

from mlnb.api.submit.option_reader import parse_arguments, split_line
from mlnb.api.submit.options import Options
from mlnb.workspace import Workspace


def parse(line: str, defaults: Options | None = None) -> Options:
    """The options of ``line``; ``defaults`` hold for those that it doesn't give."""
    return parse_arguments(split_line(line, "%%train"), Workspace.of_process(), defaults)
