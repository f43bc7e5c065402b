"""Kill the ranks when their node program has died, so that none is orphaned.

The guard is a forked process that only waits on a pipe. The node program holds the other end. However that program
ends, ``kill -9`` included, the kernel closes the pipe; the guard then kills the ranks that are left.
"""

from __future__ import annotations

import contextlib
import os
import signal

from mlnb.node.process.identity import signal_group


class OrphanGuard:
    """The guard process, as the node program that forks it sees it: the writing end of the pipe."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.close(self._write)
                _kill_groups_at_end(read)
            os._exit(0)
        os.close(read)

    def add(self, group: int) -> None:
        """Kill this process group, too, when the node program has died."""
        with contextlib.suppress(OSError):  # the guard itself was killed
            os.write(self._write, b"%d\n" % group)

    def dismiss(self) -> None:
        """End the guard: all ranks have ended."""
        with contextlib.suppress(ProcessLookupError):  # another process has killed it
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def close_in_child(self) -> None:
        """Close the pipe in a forked rank, which would keep it open otherwise."""
        os.close(self._write)


def _kill_groups_at_end(read: int) -> None:
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
