"""Distributions that exist only during a test: a folder on ``sys.path`` with a module and its entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_distribution(folder: Path, name: str, modules: dict[str, str], points: dict[str, dict[str, str]]) -> Path:
    """Write what ``pip install`` would: modules, and ``NAME-1.0.dist-info`` with entry points by group and name."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items())
    (info / "entry_points.txt").write_text("\n".join(sections))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The distributions in ``folder`` are installed in this process; their modules are forgotten at the end."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for path in folder.glob("*.py"):
            sys.modules.pop(path.stem, None)
