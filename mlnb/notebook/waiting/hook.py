"""Sees, while a cell runs, which files it uses and which code it evaluates, and lets it wait for a run that matters.

An audit hook (``sys.addaudithook``) is called for what Python itself does. A library that opens files by other means is
covered only as far as the cell names the path.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol

from mlnb.errors import MlnbError
from mlnb.notebook.waiting.files import absolute


class Watcher(Protocol):
    """What decides whether a cell must wait (:class:`mlnb.notebook.waiting.pending.PendingRuns`)."""

    def may_wait(self) -> bool:
        """Whether there is a run to wait for."""

    def before_use(self, kind: str, path: str, folder: str) -> None:
        """The cell is about to ``read``, ``write`` or ``list`` a path, or to start a ``command`` in a folder."""

    def before_code(self, code: CodeType) -> None:
        """The cell is about to evaluate ``code`` in the session's namespace."""


class AuditHook:
    """Calls a watcher for what cells do; there is one per process, since Python can't remove an audit hook.

    Attributes
    ----------
    watcher
        who is called; may be replaced.
    namespace
        the session's names.
    active
        whether a cell runs now, which is not the cell of a run.
    """

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.namespace: dict[str, Any] = {}
        self.active = False
        self._pid = os.getpid()
        self._busy = threading.local()
        self._events: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "open": self._opened,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "os.remove": self._changed,
            "os.rename": self._changed,
            "shutil.rmtree": self._changed,
            "sqlite3.connect": self._read,
            "os.system": self._started,
            "os.forkpty": self._started_in_terminal,
            "subprocess.Popen": self._started_program,
            "exec": self._evaluated,
        }

    def install(self, watcher: Watcher, namespace: dict[str, Any]) -> None:
        """Call ``watcher`` from now on."""
        if self.watcher is None:
            sys.addaudithook(self)
        self.watcher, self.namespace = watcher, namespace

    def begin(self, *_: Any) -> None:
        """A cell begins."""
        self.active = True

    def end(self, *_: Any) -> None:
        """The cell has ended."""
        self.active = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hear of no event in this block."""
        before, self.active = self.active, False
        try:
            yield
        finally:
            self.active = before

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python calls this for every event; an exception that it raises ends what the event is about."""
        if not self.active or event not in self._events or getattr(self._busy, "now", False):
            return
        watcher, thread = self.watcher, threading.current_thread()
        if watcher is None or not watcher.may_wait() or os.getpid() != self._pid or thread.daemon:
            return
        self._busy.now = True
        try:
            self._events[event](arguments)
        except MlnbError:  # the cell can't go on
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not keep a cell from its files
            logging.getLogger("mlnb").debug("%s: %s", event, error)
        finally:
            self._busy.now = False

    def _opened(self, arguments: tuple[Any, ...]) -> None:
        path, mode, flags = arguments
        writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
        writes = writes or (mode is None and isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)))
        self._use("write" if writes else "read", path)

    def _read(self, arguments: tuple[Any, ...]) -> None:
        self._use("read", arguments[0])

    def _listed(self, arguments: tuple[Any, ...]) -> None:
        self._use("list", "." if arguments[0] is None else arguments[0])

    def _changed(self, arguments: tuple[Any, ...]) -> None:
        for path in arguments[:2]:
            self._use("write", path)

    def _started(self, arguments: tuple[Any, ...]) -> None:
        self._use("command", arguments[0])

    def _started_program(self, arguments: tuple[Any, ...]) -> None:
        _, command, folder, _ = arguments
        command = [command] if isinstance(command, (str, bytes)) else list(command)
        texts = [os.fsdecode(argument) for argument in command if isinstance(argument, (str, bytes, os.PathLike))]
        if len(texts) > 2 and Path(texts[0]).name in ("sh", "bash", "zsh") and texts[1] in ("-c", "-lc"):
            texts = texts[2:3]
        self._use("command", " ".join(texts), folder)

    def _started_in_terminal(self, _: tuple[Any, ...]) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:  # the command of a line with ! is known only to IPython's function
            command = frame.f_locals.get("cmd") if frame.f_code.co_name == "system" else None
            if isinstance(command, str):
                self._use("command", command)
                return
            frame = frame.f_back

    def _evaluated(self, arguments: tuple[Any, ...]) -> None:
        caller, code = sys._getframe(2), arguments[0]
        if not isinstance(code, CodeType) or self.watcher is None:
            return
        is_run = code.co_filename.endswith(".py") and str(caller.f_globals.get("__name__")).startswith("IPython.")
        if caller.f_globals is self.namespace or is_run:  # eval, exec; %run
            self.watcher.before_code(code)

    def _use(self, kind: str, path: Any, folder: Any = None) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)) or self.watcher is None:
            return  # a file descriptor
        text = os.fsdecode(path)
        where = str(Path.cwd())
        where = where if folder is None else absolute(os.fsdecode(folder), where)
        if not _is_incidental(sys._getframe(3)):
            self.watcher.before_use(kind, text if kind == "command" else absolute(text, where), where)


_TRANSPARENT = frozenset({"importlib", "inspect", "linecache", "pkgutil", "tokenize", "zipimport"})
"""Modules that look at files for Python's own purposes."""


def _is_incidental(frame: FrameType | None) -> bool:
    """Whether a file is used for Python's own purposes (for an import, a traceback) or for those of mlnb."""
    in_library = True
    while frame is not None:
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        in_library = in_library and root in sys.stdlib_module_names
        if root == "mlnb" or (in_library and root in _TRANSPARENT):
            return True
        frame = frame.f_back
    return False


hook = AuditHook()
"""The one of this process."""
