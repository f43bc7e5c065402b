"""Makes a task of an unmodified script or module, its arguments, and the local modules that it imports."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from mlnb.api.submit.options import Options
from mlnb.capture.ship.contents import Content
from mlnb.capture.source.modules import LocalModules, imported_by
from mlnb.errors import UsageError
from mlnb.targets.base import Offer
from mlnb.task import Segment, Task
from mlnb.version import __version__


@dataclass(frozen=True)
class Program:
    """What ``mlnb run`` runs.

    Attributes
    ----------
    path
        the file.
    argv
        its arguments.
    module
        the module's full name, if it is run as ``python -m`` runs it; else empty.
    """

    path: Path
    argv: tuple[str, ...] = ()
    module: str = ""

    @property
    def name(self) -> str:
        """What the user calls it."""
        return f"-m {self.module.removesuffix('.__main__')}" if self.module else str(self.path)

    @property
    def import_folder(self) -> Path:
        """The first folder of ``sys.path`` when Python runs it."""
        return Path.cwd() if self.module else self.path.parent.resolve()


def program(arguments: Sequence[str]) -> Program:
    """The program that ``arguments`` name: a script or ``-m`` and a module, perhaps ``--``, and arguments.

    Raises
    ------
    UsageError
        if there is no such module.
    """
    module, rest = "", list(arguments)
    if rest[0] == "-m":
        if len(rest) < 2:
            raise UsageError("-m needs a module: mlnb run [options] -m package.module [args]")
        module, path = _find_module(rest[1])
        rest = rest[1:]
    else:
        path = Path(rest[0])
    return Program(path, tuple(rest[2:] if rest[1:2] == ["--"] else rest[1:]), module)


def _find_module(name: str) -> tuple[str, Path]:
    """The full name and the file of the module that ``python -m name`` runs. Nothing is imported."""
    parts, folders = name.split("."), [str(Path.cwd()), *sys.path]
    for index in range(len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[: index + 1]), folders)
        if spec is None:
            break
        if spec.submodule_search_locations is None:
            if index + 1 < len(parts) or not (spec.origin or "").endswith(".py"):
                break
            return ".".join(parts), Path(str(spec.origin))
        folders = list(spec.submodule_search_locations)
        if index + 1 == len(parts):
            parts.append("__main__")
    raise UsageError(f"mlnb run -m {name}: no such module below {Path.cwd()} or on the import path")


def script_task(program: Program, options: Options, offer: Offer) -> tuple[Task, dict[str, Content]]:
    """The task of ``mlnb run``, and the local modules to send with it.

    Raises
    ------
    UsageError
        if the file can't be read, or is not a Python script.
    """
    path = program.path
    try:
        text = importlib.util.decode_source(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"mlnb run {program.name}: can't read it: {reason}") from None
    try:
        compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise UsageError(f"mlnb run {program.name}: line {error.lineno}: {error.msg}") from None
    modules = _modules(program)
    task = Task(
        script=text,
        argv=program.argv,
        segments=(Segment(1, text.count("\n") + 1, path.name, 1),),
        resources=offer.resources,
        environment={
            "python": sys.version.split()[0],
            "torch": _torch(),
            "mlnb": __version__,
            "env": sorted(name for name, _ in options.env),
            "file": str(path.resolve()),
            "module_folders": modules.folders,
            **({"module": program.module} if program.module else {}),
        },
        seed=options.seed,
        parallel=options.parallel,
    )
    return task, dict(modules.contents)


def _modules(program: Program) -> LocalModules:
    """The local modules that the program imports, found as Python finds them when it runs the program."""
    folder = program.import_folder
    sys.path.insert(0, str(folder))
    try:
        local = LocalModules(folder)
        roots = {program.module.split(".")[0]} if program.module else set()
        for root in sorted(roots | imported_by(program.path)):
            local.add(root)
    finally:
        sys.path.remove(str(folder))
    return local


def _torch() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
