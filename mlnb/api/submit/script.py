"""Makes a task of an unmodified script, its arguments, and the local modules that it imports."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from mlnb.api.submit.options import Options
from mlnb.capture.ship.contents import Content
from mlnb.capture.source.modules import LocalModules, imported_by
from mlnb.errors import UsageError
from mlnb.targets.base import Offer
from mlnb.task import Segment, Task
from mlnb.version import __version__


def script_task(path: Path, argv: list[str], options: Options, offer: Offer) -> tuple[Task, dict[str, Content]]:
    """The task of ``mlnb run path argv``.

    Raises
    ------
    UsageError
        if ``path`` can't be read, or is not a Python script.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"mlnb run {path}: can't read it: {reason}") from None
    try:
        compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise UsageError(f"mlnb run {path}: line {error.lineno}: {error.msg}") from None
    contents = _modules(path)
    task = Task(
        script=text,
        argv=tuple(argv),
        segments=(Segment(1, text.count("\n") + 1, path.name, 1),),
        resources=offer.resources,
        environment={
            "python": sys.version.split()[0],
            "torch": _torch(),
            "mlnb": __version__,
            "env": sorted(name for name, _ in options.env),
            "file": str(path.resolve()),
        },
        seed=options.seed,
        parallel=options.parallel,
    )
    return task, contents


def _modules(path: Path) -> dict[str, Content]:
    """The local modules that the script imports, found as Python finds them when it runs the script."""
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        local = LocalModules(path.parent.resolve())
        for root in sorted(imported_by(path)):
            local.add(root)
    finally:
        sys.path.remove(folder)
    return dict(local.contents)


def _torch() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
