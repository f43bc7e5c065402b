"""Files of a plain loop on several ranks: rank 0 changes them, and the others go on when it has.

Each rank runs the same code, and would write the same files at the same time. Instead, where a rank other than 0 is
about to change a file, it waits until rank 0 makes the same change, and makes none itself; what it writes goes to a
file without a name. Where rank 0 does not come to that change before its next collective, as with a name that has the
rank in it, the file is this rank's own. A rank that finds a file missing waits until rank 0 has made it, or goes on
without; so they do not all make it. A file that rank 0 is about to write is read when it is whole.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib.util
import io
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mlnb.node.parallel.files.followed_paths import FollowedPaths
from mlnb.node.parallel.files.rank_zero import COMPLETE, FAILED, Log, Questions
from mlnb.node.parallel.files.watched_file import Scratch, open_watched
from mlnb.node.rank.patches import Patches

_CHANGES: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (os, "mkdir", (0,)),
    (os, "makedirs", (0,)),
    (os, "rmdir", (0,)),
    (os, "remove", (0,)),
    (os, "unlink", (0,)),
    (os, "truncate", (0,)),
    (os, "rename", (0, 1)),
    (os, "replace", (0, 1)),
    (os, "link", (1,)),
    (os, "symlink", (1,)),
    (shutil, "rmtree", (0,)),
    (shutil, "move", (0, 1)),
    (shutil, "copy", (1,)),
    (shutil, "copy2", (1,)),
    (shutil, "copyfile", (1,)),
    (shutil, "copytree", (1,)),
    (torch, "save", (1,)),
    (torch.jit, "save", (1,)),
    (torch.jit.ScriptModule, "save", (1,)),
    (torch.jit._script.RecursiveScriptModule, "save", (1,)),
)
"""Functions that change files, with the positions of the paths among their arguments."""

_OTHER_CHANGES = (("safetensors.torch", "save_file", (1,)), ("safetensors.numpy", "save_file", (1,)))
"""The same of packages that may be installed."""

_RETURN_PATH = ("move", "copy", "copy2", "copyfile", "copytree")
"""Functions that return where the file is now."""

_NAMES: dict[str, tuple[str, ...]] = {
    "save": ("obj", "f"),
    "save_file": ("tensors", "filename"),
    "rename": ("src", "dst"),
    "replace": ("src", "dst"),
}
_CAPTURED = (("tarfile", "bltn_open"), ("bz2", "_builtin_open"))
"""Where modules keep ``open`` as it was when they were imported."""

_RECENT = 300.0
"""Seconds before the start of the run: an older file has not been changed by it, whatever the clocks say."""


class SharedFiles:
    """Replaces what changes files, and what looks for them.

    Parameters
    ----------
    paths
        tells which paths all ranks share.
    log
        on rank 0: gets its changes.
    questions
        on other ranks: asks rank 0 for them.
    is_elsewhere
        whether this rank is not on rank 0's node, and so may not see its files.
    """

    def __init__(
        self, paths: FollowedPaths, *, log: Log | None = None, questions: Questions | None = None, is_elsewhere: bool
    ) -> None:
        self._paths, self._log, self._questions, self._is_elsewhere = paths, log, questions, is_elsewhere
        self._patches = Patches()
        self._local = threading.local()
        self._pid = os.getpid()
        self._stat = os.stat
        self._since = time.time() - _RECENT
        self._is_active = False
        self._whole: dict[str, tuple[int, int, int]] = {}  # states of files of this run that were found whole

    def install(self) -> None:
        """Replace the functions."""
        self._is_active = True
        opened = self._wrap_open(builtins.open)
        for module in (builtins, io):
            self._patches.set(module, "open", opened)
        for name, attribute in _CAPTURED:
            if name in sys.modules:
                self._patches.set(sys.modules[name], attribute, opened)
        for owner, name, positions in (*_CHANGES, *_imported(_OTHER_CHANGES)):
            self._patches.wrap(owner, name, functools.partial(self._wrap_change, name=name, positions=positions))
        self._patches.wrap(os, "stat", self._wrap_stat if self._questions is not None else self._wrap_leading_stat)
        for features in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if self._stat in features:
                features.add(os.stat)

    def uninstall(self) -> None:
        """Restore the functions: each rank changes files itself from now on."""
        if self._is_active:
            self._is_active = False
            self._patches.undo()

    def _path(self, value: Any) -> str | None:
        """The absolute path, if it is one that all ranks share; ``None`` within another change."""
        if not self._is_active or getattr(self._local, "is_changing", False) or os.getpid() != self._pid:
            return None
        return self._paths.followed(value)

    # Changes

    def _wrap_change(self, original: Callable[..., Any], *, name: str, positions: Sequence[int]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            given = [_argument(args, kwargs, position, name) for position in positions]
            if name == "mkdir" and sys._getframe(1).f_globals.get("__name__") == "tempfile":
                self._paths.leave(given[0])
            paths = [self._path(value) for value in given]
            followed = [path for path in paths if path is not None]
            if len(followed) < len(paths) or any(key.endswith("dir_fd") for key in kwargs):
                return original(*args, **kwargs)
            run = functools.partial(original, *args, **kwargs)
            if self._log is not None:
                return self._lead(followed, run)
            return self._follow(followed, run, given[-1] if name in _RETURN_PATH else None)

        return change

    def _lead(self, paths: Sequence[str], run: Callable[[], Any]) -> Any:
        assert self._log is not None
        ends = [self._log.begin(path) for path in paths]
        state = FAILED
        try:
            result = self._alone(run)
            state = COMPLETE
        finally:
            for end in ends:
                end(state)
        return result

    def _follow(self, paths: Sequence[str], run: Callable[[], Any], result: Any) -> Any:
        assert self._questions is not None
        numbers = [self._questions.next_change(path) for path in paths]
        if not self._questions.does(paths[-1], numbers[-1]):
            return self._alone(run)
        self._questions.wait_until_done(paths[-1], numbers[-1])
        if self._is_elsewhere and not _is_visible(paths[-1]):
            with contextlib.suppress(OSError):  # a change that has removed it
                return self._alone(run)
        return result

    def _alone(self, run: Callable[[], Any]) -> Any:
        """Run without looking at what it changes."""
        self._local.is_changing = True
        try:
            return run()
        finally:
            self._local.is_changing = False

    def _wrap_open(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            more = (buffering, encoding, errors, newline, closefd, opener)
            path = None if opener is not None else self._path(file)
            if path is None or not _is_valid(mode, *more[:4]):
                return original(file, mode, *more)
            if set(mode) & set("wxa+"):
                if encoding is None and "b" not in mode:
                    encoding = io.text_encoding(None, 2)
                return self._open_to_write(path, original, file, mode, (buffering, encoding, errors, newline))
            if self._questions is not None:
                self._is_there(path)
            return original(file, mode, *more)

        return opened

    def _open_to_write(self, path: str, original: Callable[..., Any], file: Any, mode: str, more: Sequence[Any]) -> Any:
        if self._log is not None:
            end = self._log.begin(path)
            try:
                return open_watched(file, mode, *more, on_close=lambda: end(COMPLETE))
            except BaseException:
                end(FAILED)
                raise
        questions = self._questions
        assert questions is not None
        scratch = Scratch(path, mode, is_kept=self._is_elsewhere)  # before rank 0 changes what is there
        number = questions.next_change(path)
        if not questions.does(path, number):
            scratch.close()
            return original(file, mode, *more)

        def wait() -> None:
            if self._is_active and os.getpid() == self._pid:
                questions.wait_until_done(path, number)
                if self._is_elsewhere and not _is_visible(path):
                    self._alone(lambda: scratch.write_to(path))

        return open_watched(file, mode, *more, opener=scratch.open, on_close=wait)

    # Reading

    def _is_there(self, path: str) -> bool:
        """Whether there is a file or folder, once rank 0 has made it or goes on without."""
        assert self._questions is not None
        try:
            found = self._stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._questions.wait_until_made(path)
            return False
        except OSError:
            return True
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stat.S_ISREG(found.st_mode) and found.st_mtime > self._since and self._whole.get(path) != state:
            self._questions.wait_until_whole(path)
            self._whole[path] = state
        return True

    def _wrap_stat(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Any, *args: Any, **kwargs: Any) -> Any:
            followed = None if args or kwargs.get("dir_fd") is not None else self._path(path)
            if followed is not None and sys._getframe(1).f_globals.get("__name__") != "linecache":  # for a traceback
                self._is_there(followed)
            return original(path, *args, **kwargs)

        return look

    def _wrap_leading_stat(self, original: Callable[..., Any]) -> Callable[..., Any]:
        assert self._log is not None
        log = self._log

        def look(path: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(path, *args, **kwargs)
            except (FileNotFoundError, NotADirectoryError):
                followed = self._path(path)
                if followed is not None:
                    log.missed(followed)
                raise

        return look


def _imported(changes: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[tuple[Any, str, tuple[int, ...]]]:
    found = []
    for module, name, positions in changes:
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            try:
                found.append((importlib.import_module(module), name, positions))
            except ImportError:  # what it needs itself is missing
                continue
    return found


def _is_visible(path: str) -> bool:
    """Whether this node sees what rank 0 has made."""
    with contextlib.suppress(OSError):
        # a network file system may remember that there was nothing
        os.listdir(os.path.dirname(path))  # noqa: PTH120, PTH208
    return os.path.lexists(path)


def _argument(args: Sequence[Any], kwargs: dict[str, Any], position: int, name: str) -> Any:
    if position < len(args):
        return args[position]
    names = _NAMES.get(name, ("name" if name == "makedirs" else "path",))
    return kwargs.get(names[position], kwargs.get("f"))


def _is_valid(mode: Any, buffering: Any, encoding: Any, errors: Any, newline: Any) -> bool:
    """Whether ``open`` accepts the arguments."""
    if not isinstance(mode, str) or set(mode) - set("rwxabt+") or len(set(mode) & set("rwxa")) != 1:
        return False
    if len(set(mode)) != len(mode) or not isinstance(buffering, int):
        return False
    if "b" in mode:
        return "t" not in mode and encoding is None and errors is None and newline is None
    return buffering != 0 and newline in (None, "", "\n", "\r", "\r\n")
