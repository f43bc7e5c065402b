"""IPython's ``display`` for a rank: saves figures and images as files of the attempt, prints other values."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

figures_dir: Path | None = None
"""Where images are saved; ``None`` in processes that save none (ranks other than 0)."""

_count = 0


def begin(folder: Path | None) -> None:
    """Save figures and images to ``folder`` from now on; ``None`` saves none."""
    global figures_dir
    figures_dir = folder
    os.environ["MPLBACKEND"] = "module://mlnb.node.rank.mpl_backend"


def save_png(png: bytes) -> None:
    """Save a PNG image under the next number."""
    global _count
    if figures_dir is None:
        return
    figures_dir.mkdir(mode=0o700, exist_ok=True)
    _count += 1
    temporary = figures_dir / f".{_count:04d}.tmp"
    temporary.write_bytes(png)
    temporary.rename(figures_dir / f"{_count:04d}.png")


def display(*values: Any, **_: Any) -> None:
    """Save figures and images, print the ``repr`` of other values."""
    for value in values:
        if hasattr(value, "savefig"):
            save_figure(value)
        elif callable(getattr(value, "_repr_png_", None)) and (png := value._repr_png_()):
            save_png(png)
        else:
            print(repr(value))


def save_figure(figure: Any) -> None:
    """Save a matplotlib figure as a PNG image."""
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    save_png(file.getvalue())


def show_open_figures() -> None:
    """Save the figures that are still open, as a notebook shows them at the end of a cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.show()
