"""Exchange JSON lines over a TCP connection between two node programs."""

from __future__ import annotations

import json
import socket
from typing import Any

from mlnb.node.rendezvous.addresses import unmapped
from mlnb.rundir import parse_lines

Message = dict[str, Any]

_SEND_TIMEOUT = 10.0
"""Seconds after which a peer that reads nothing counts as gone. Messages are short and fit into its kernel's buffer:
a send waits only if the peer is gone, or has not read for long."""

_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""The kernels probe each other after 10 s of silence, and give up after 20 s more (tcp(7)). We send no heartbeats: a
batch system may suspend all node programs for a while, and they are not lost then."""


class Channel:
    """One end of a connection. If it breaks, it is ``closed``; nothing is raised.

    Parameters
    ----------
    connection
        a connected socket, which this object owns from now on.
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
        """File descriptor that is readable when a message has arrived."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send one message."""
        if self.closed:
            return
        try:
            self._socket.settimeout(_SEND_TIMEOUT)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            self._socket.setblocking(False)
        except OSError:
            self.close()

    def receive(self, max_bytes: int | None = None) -> list[Message]:
        """The messages that have arrived, without waiting; after the connection has closed, the last ones.

        Parameters
        ----------
        max_bytes
            the connection is closed if a line is longer than this.
        """
        while not self.closed:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._data += data
            if not data or (max_bytes is not None and len(self._data) > max_bytes):
                self.close()
        lines, newline, rest = self._data.rpartition(b"\n")
        self._data = rest
        return parse_lines(lines) if newline else []

    def receive_one(self, timeout: float) -> Message | None:
        """Wait for the next message of a handshake; ``None`` if none arrives within ``timeout`` seconds."""
        self._socket.settimeout(timeout)
        try:
            with self._socket.makefile("rb", buffering=0) as file:
                messages = parse_lines(file.readline(4096))
        except OSError:
            messages = []
        finally:
            self._socket.setblocking(False)
        return messages[0] if messages else None

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._socket.close()
