"""What a rank's own program has printed."""

from __future__ import annotations

from mlnb.api import Run


def printed(run: Run, rank: int) -> str:
    """The standard output of ``rank``, without the line that Gloo of torch 2.9 prints when ranks connect."""
    lines = run.logs(rank, "out").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("[Gloo] "))
