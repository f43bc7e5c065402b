"""Files that a run may write, and whether a use of a path must wait for the run."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.api import Run
from mlnb.capture import Captured
from mlnb.notebook.waiting.paths import Paths, named_in

_READS_NO_FILES = frozenset(
    """
    clear conda date df echo env export free hostname htop id kill mamba mlnb nproc nvidia-smi pip pip3 printenv ps pwd
    sacct sbatch scancel scontrol sinfo sleep squeue srun top uname uptime uv w whereis which who whoami
    """.split()  # noqa: SIM905 - a list of arguments is easier to read in one string
)
"""Commands that read nothing of the folder that they are started in."""

_IGNORED = (".ipynb", ".py", ".pyc", ".so")
"""Endings of files that change for other reasons than a run's: notebooks are saved, code is edited and compiled."""

_OTHER_PLACES = ("/bin/", "/dev/", "/etc/", "/lib", "/proc/", "/sbin/", "/sys/", "/usr/")


@dataclass
class WrittenFiles:
    """What a run that was submitted from this session may write to files that the session sees.

    Attributes
    ----------
    folder
        what the run's relative paths are relative to.
    patterns
        absolute paths, with ``*`` where a part is not known.
    looked_for
        absolute paths that its program names, and only to read them: nothing of the run makes them.
    unknown
        whether it writes files whose paths are not known.
    moves
        whether it may change the current folder, to which the paths of later cells are relative.
    submitted
        when it was submitted, in seconds since the epoch.
    runs
        the folder of the run directories, in which everybody may look at any time.
    """

    folder: str = ""
    patterns: set[str] = field(default_factory=set)
    looked_for: set[str] = field(default_factory=set)
    unknown: bool = False
    moves: bool = False
    submitted: float = 0.0
    runs: str = ""

    def concerns(self, kind: str, path: str, folder: str, own: set[str]) -> bool:
        """Whether a use of ``path`` must wait for the run.

        Parameters
        ----------
        kind
            ``read``, ``write``, ``list``, or ``command``, whose path is the command itself.
        folder
            where it takes place.
        own
            what this session has written since the run was submitted.
        """
        if not self.folder or path.startswith((f"{self.runs}/", *_OTHER_PLACES)) or path == self.runs:
            return False
        if kind == "command":
            return self.moves or self._concerns_command(path, folder)
        if self.moves and self._is_inside(path):
            return True
        if kind == "list":
            return self._concerns_listing(path, own)
        return self.names(path) or (kind == "read" and self._concerns_read(path, own))

    def names(self, path: str) -> bool:
        """Whether the run may write ``path``, or into it, as far as its program names it, or change what it means."""
        return (self.moves and self._is_inside(path)) or any(_matches(path, pattern) for pattern in self.patterns)

    def holds(self, folder: str) -> bool:
        """Whether the run may write into ``folder``, at any depth."""
        inside = f"{folder.rstrip('/')}/"
        if self.unknown and (f"{self.folder}/".startswith(inside) or inside.startswith(f"{self.folder}/")):
            return True
        return self.names(folder) or any(pattern.startswith(inside) for pattern in self.patterns)

    def _changes_entries(self, folder: str) -> bool:
        """Whether the run may add something to ``folder`` itself: what is there already is a folder deeper down."""
        inside = f"{folder.rstrip('/')}/"
        if self.names(folder) or (self.unknown and inside.startswith(f"{self.folder}/")):
            return True
        below = {pattern.removeprefix(inside) for pattern in self.patterns if pattern.startswith(inside)}
        return any("/" not in rest or not Path(folder, rest.partition("/")[0]).is_dir() for rest in below)

    def _concerns_read(self, path: str, own: set[str]) -> bool:
        if path.endswith(_IGNORED) or path in self.looked_for or not self._is_near(path):
            return False
        with contextlib.suppress(OSError):
            info = Path(path).stat()
            return max(info.st_mtime, info.st_ctime) >= self.submitted and path not in own
        return not Path(path).name.startswith(".")

    def _concerns_listing(self, path: str, own: set[str]) -> bool:
        if self._changes_entries(path):
            return True
        with contextlib.suppress(OSError):
            changed = Path(path).stat().st_mtime >= self.submitted
            return changed and self._is_near(path) and path not in own
        return self._is_near(path)

    def _is_inside(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self.folder}/")

    def _is_near(self, path: str) -> bool:
        """Whether ``path`` is below the run's own folder or one that its program names."""
        folders = {self.folder, *(str(Path(pattern).parent) for pattern in self.patterns)} - {"/"}
        return any(path.startswith(f"{folder}/") for folder in folders)

    def _concerns_command(self, command: str, folder: str) -> bool:
        arguments = _arguments(command)
        if any(self.names(absolute(argument, folder)) for argument in arguments[1:]):
            return True
        return bool(arguments) and Path(arguments[0]).name not in _READS_NO_FILES and self.holds(folder)


def written_files(code: Sequence[ast.AST], run: Run, namespace: Mapping[str, Any], *, moves: bool) -> WrittenFiles:
    """What ``run``, made of ``code``, may write where the session sees it; ``moves``: see :class:`WrittenFiles`."""
    info = run.info
    if info.mirrored or not info.cwd:
        return WrittenFiles()
    found = named_files(code, info.cwd, namespace)
    return WrittenFiles(
        str(Path(info.cwd).resolve()),
        found.written,
        found.read - found.written,
        found.unknown,
        moves,
        time.time(),
        str(run.dir.parent.resolve()),
    )


def named_files(code: Iterable[ast.AST], folder: str, namespace: Mapping[str, Any]) -> Paths:
    """The files that code may write or read, run in ``folder``, as absolute patterns."""
    found = Paths()
    for tree in code:
        paths = named_in(tree, namespace)
        found.written |= {absolute(text, folder) for text in paths.written}
        found.read |= {absolute(text, folder) for text in paths.read}
        found.unknown |= paths.unknown
    return found


def used_paths(tree: ast.AST, folder: str, namespace: Mapping[str, Any]) -> set[str]:
    """The paths that a program names in full, to write or to read them."""
    paths = named_in(tree, namespace)
    like_paths = {text for text in paths.written | paths.read if "*" not in text and ("/" in text or "." in text)}
    return {absolute(text, folder) for text in like_paths}


def shell_bodies(tree: ast.AST) -> Iterator[str]:
    """The lines of ``%%bash`` cells and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "run_cell_magic":
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if len(texts) == 3 and texts[0] in ("bash", "sh", "script"):
                yield from str(texts[2]).splitlines()


def code_of(captured: Captured) -> Iterator[ast.AST]:
    """The code of the cell and of the notebook's definitions, and local modules; values are looked up as they are."""
    tree = ast.parse(captured.script)
    cell = captured.segments[-1].start if captured.segments else 1
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    yield ast.Module([node for node in tree.body if node.lineno >= cell or isinstance(node, definitions)], [])
    for path, content in captured.files.items():
        if path.endswith(".py") and content.size < _LARGEST_MODULE:
            with contextlib.suppress(OSError, SyntaxError, ValueError):
                yield ast.parse(b"".join(content.chunks()))


_LARGEST_MODULE = 500_000


def absolute(path: str, folder: str) -> str:
    """``path`` in ``folder`` without links, though parts of it may not exist."""
    try:
        joined = Path(os.path.normpath(Path(folder, path).expanduser()))
        return str(joined.parent.resolve() / joined.name)
    except (OSError, RuntimeError, ValueError):  # it can't be a path
        return path


def _matches(path: str, pattern: str) -> bool:
    if "*" not in pattern:
        return path == pattern or path.startswith((f"{pattern}/", f"{pattern}."))
    return any(fnmatch.fnmatchcase(path, glob) for glob in (pattern, f"{pattern}/*", f"{pattern}.*"))


def _arguments(command: str) -> list[str]:
    with contextlib.suppress(ValueError):
        arguments = shlex.split(command.replace(";", " ; ").replace("|", " | ").replace("&", " & "))
        while arguments and "=" in arguments[0].split("/")[0]:  # variables that are set for the command
            arguments.pop(0)
        return arguments
    return command.split()
