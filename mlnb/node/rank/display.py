"""What the script shows: figures and displayed values, kept as files of the attempt."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

folder: Path | None = None
"""Where pictures go; ``None`` where this process shows nothing (ranks other than 0)."""

_count = 0


def begin(figures: Path | None) -> None:
    """Keep what is shown under ``figures``; ``None`` shows nothing."""
    global folder
    folder = figures
    os.environ["MPLBACKEND"] = "module://mlnb.node.rank.mpl_backend"


def picture(png: bytes) -> None:
    """Keep a PNG."""
    global _count
    if folder is None:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    _count += 1
    temporary = folder / f".{_count:04d}.tmp"
    temporary.write_bytes(png)
    temporary.rename(folder / f"{_count:04d}.png")


def display(*values: Any, **_: Any) -> None:
    """Stand in for IPython's ``display``: figures and pictures are kept, other values printed."""
    for value in values:
        if hasattr(value, "savefig"):
            figure(value)
        elif callable(getattr(value, "_repr_png_", None)) and (png := value._repr_png_()):
            picture(png)
        else:
            print(repr(value))


def figure(value: Any) -> None:
    """Keep a matplotlib figure."""
    import io

    file = io.BytesIO()
    value.savefig(file, format="png", bbox_inches="tight")
    picture(file.getvalue())


def finish() -> None:
    """Show figures that are still open, as a notebook does at the end of a cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.show()
