"""Sleeping until something happens: a signal, or news on a connection."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Iterable

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)


class SignalWaiter:
    """Takes the signals of this process from now on; none of them interrupts anything but :meth:`sleep`."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(self._read, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def sleep(self, seconds: float, files: Iterable[int] = ()) -> bytes:
        """Sleep until a signal comes, one of these files can be read or the time is over; the signals' numbers."""
        with selectors.PollSelector() as selector:
            for file in (self._read, *files):
                selector.register(file, selectors.EVENT_READ)
            selector.select(max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            return os.read(self._read, 1024)
        return b""
