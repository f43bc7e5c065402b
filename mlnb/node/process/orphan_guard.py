"""The guard: ends the ranks when their node program is gone.

A process that does nothing but wait on a pipe whose other end the node program holds. However that program ends,
kill -9 included, the kernel closes the pipe, and the guard kills what is left of the ranks: nothing is orphaned.
"""

from __future__ import annotations

import contextlib
import os
import signal

from mlnb.node.process.identity import signal_group


class OrphanGuard:
    """The node program's end of the pipe."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        os.set_inheritable(self._write, False)
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.close(self._write)
                _watch(read)
            os._exit(0)
        os.close(read)

    def add(self, group: int) -> None:
        """Watch over a process group."""
        with contextlib.suppress(OSError):  # the guard was killed: nothing it could do any more
            os.write(self._write, b"%d\n" % group)

    def close_in_child(self) -> None:
        """A forked rank must not hold the pipe open."""
        os.close(self._write)


def _watch(read: int) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    data = b""
    while chunk := os.read(read, 4096):
        data += chunk
    for line in data.split():
        signal_group(int(line), signal.SIGKILL)
