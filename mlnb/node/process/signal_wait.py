"""Wait for signals and readable files at once, as an event loop does."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Iterable

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)


class SignalWaiter:
    """Handles this process's signals from now on. They interrupt nothing but :meth:`wait`."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(self._read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float, files: Iterable[int] = ()) -> bytes:
        """Wait until a signal arrives, one of ``files`` is readable, or ``seconds`` are over.

        Returns the numbers of the signals that arrived, one byte each.
        """
        with selectors.PollSelector() as selector:
            for file in (self._read, *files):
                selector.register(file, selectors.EVENT_READ)
            selector.select(max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            return os.read(self._read, 1024)
        return b""
