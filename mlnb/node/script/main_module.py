"""The module ``__main__`` of a rank, its import path and its arguments.

A script is where its file is: ``__file__``, the file of its code and the modules beside it are the originals while they
exist and are what was submitted. A cell has no file, as in a notebook: processes that it spawns do not run it again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import linecache
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlnb.rundir import RunDir
from mlnb.task import Task


def file_name(run_dir: RunDir, task: Task) -> str:
    """The file name of the program's code: that of the original, if there is one, else that of ``script.py``."""
    original = task.environment.get("file")
    return str(original) if original and Path(original).is_file() else str(run_dir.script)


def make(run_dir: RunDir, task: Task) -> types.ModuleType:
    """Make ``__main__``; set ``sys.argv`` and ``sys.path``."""
    main = types.ModuleType("__main__")
    file = file_name(run_dir, task)
    sys.argv = [file, *task.argv]
    sys.path[:0] = _import_path(run_dir, task)
    sys.path += [path for path in task.environment.get("import_path") or () if path not in sys.path]
    sys.modules["__main__"] = main
    if task.interactive:
        return main
    main.__file__ = file
    lines = task.script.splitlines(keepends=True)
    linecache.cache[file] = (len(task.script), None, lines, file)  # the text that runs, whatever the file has now
    if not _is_unchanged(Path(file), task.script):
        _spawn_from(str(run_dir.script))
    module = task.environment.get("module")
    if module:
        spec = importlib.util.find_spec(module)
        main.__spec__, main.__package__ = spec, module.rpartition(".")[0]
        main.__loader__ = spec.loader if spec else None
    return main


def _import_path(run_dir: RunDir, task: Task) -> list[str]:
    """What comes first in ``sys.path``: the folders of the local modules if all are as submitted, else the copies."""
    file, module = task.environment.get("file"), task.environment.get("module")
    own = str(Path(file).parent) if file and not module else str(Path.cwd())
    folders = task.environment.get("module_folders") or {}
    if not folders or not _are_unchanged(run_dir, task, folders):
        return [str(run_dir.modules), own]
    return list(dict.fromkeys([own, *folders.values(), str(run_dir.modules)]))


def _are_unchanged(run_dir: RunDir, task: Task, folders: dict[str, str]) -> bool:
    """Whether the files of all local modules exist where they were, with the digests that they had."""
    prefix = f"{run_dir.modules.name}/"
    for file in task.files:
        if file.path.startswith(prefix):
            relative = file.path.removeprefix(prefix)
            folder = folders.get(relative.partition("/")[0].partition(".")[0])
            if folder is None or _digest(Path(folder, relative)) != file.digest:
                return False
    return True


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _is_unchanged(path: Path, text: str) -> bool:
    try:
        return importlib.util.decode_source(path.read_bytes()) == text
    except (OSError, SyntaxError, ValueError):
        return False


def _spawn_from(path: str) -> None:
    """Make processes that are started with "spawn" import ``__main__`` from ``path``."""
    from multiprocessing import spawn

    def from_path(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        @functools.wraps(original)
        def preparation_data(name: str) -> dict[str, Any]:
            data = original(name)
            return {**data, "init_main_from_path": path} if "init_main_from_path" in data else data

        return preparation_data

    spawn.get_preparation_data = from_path(spawn.get_preparation_data)
