"""JSON lines over a TCP connection between two node programs."""

from __future__ import annotations

import json
import socket
from typing import Any

from mlnb.node.gang.addresses import unmapped
from mlnb.rundir import parse_lines

Message = dict[str, Any]

_SEND = 10.0
"""Seconds after which a peer that takes nothing is given up. Its kernel takes what we say, which is short, so that
only a peer that is gone, or that has not read for long, comes to that."""

_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""The kernels ask each other after 10 s of silence, and give up after 20 s more. Not heartbeats of ours: node
programs that a batch system suspends, on all nodes more or less at once, are not lost."""


class Channel:
    """One end of a connection. A broken one is closed, and says so; nothing is raised.

    Parameters
    ----------
    connection
        a connected socket; from now on this object's.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._data = b""
        self.closed = False
        self.own_address = unmapped(str(connection.getsockname()[0]))
        """This end's address."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        """For waiting until there is something to receive."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send one message."""
        if self.closed:
            return
        try:
            self._socket.settimeout(_SEND)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            self._socket.setblocking(False)
        except OSError:
            self.close()

    def receive(self, bound: int | None = None) -> list[Message]:
        """The messages that have come, without waiting; those that came before the end are still given.

        Parameters
        ----------
        bound
            bytes after which a peer that has not ended its line is cut off.
        """
        while not self.closed:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._data += data
            if not data or (bound is not None and len(self._data) > bound):
                self.close()
        lines, newline, rest = self._data.rpartition(b"\n")
        self._data = rest
        return parse_lines(lines) if newline else []

    def expect(self, patience: float) -> Message | None:
        """Wait for the next message of a handshake; ``None`` if none comes within ``patience`` seconds."""
        self._socket.settimeout(patience)
        try:
            with self._socket.makefile("rb", buffering=0) as file:
                found = parse_lines(file.readline(4096))
        except OSError:
            found = []
        finally:
            self._socket.setblocking(False)
        return found[0] if found else None

    def close(self) -> None:
        """Say no more, and hear no more."""
        self.closed = True
        self._socket.close()
