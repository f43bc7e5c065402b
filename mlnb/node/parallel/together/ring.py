"""Connects each rank with the next one, and the last with the first: what a rank is about to do goes around the ring.

These are sockets of their own, since a header of a few hundred bytes costs less so than as a message of gloo, whose
threads have to wake up for it on each side.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
from collections.abc import Callable
from typing import Any

from mlnb.node.rendezvous.addresses import unmapped

_TOKEN = 32
"""Bytes with which a rank shows that it is one of this run."""

_PATIENCE = 10.0
"""Seconds in which it has to."""

_LONG = 30.0
"""Seconds after which somebody who waits says so."""


class Ring:
    """The connections of one rank: to the next, and from the one before.

    Parameters
    ----------
    rank, world
        which rank this is, of how many (2 at least).
    store
        torch's key-value store of the ranks, through which they learn where to connect.
    master
        an IP address of the node of rank 0; ranks listen where they reach it from.

    Raises
    ------
    OSError
        if the next rank can't be reached.
    """

    def __init__(self, rank: int, world: int, store: Any, master: str) -> None:
        self._before = (rank - 1) % world
        token = secrets.token_bytes(_TOKEN)
        host = _own_address(master)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            port = listener.getsockname()[1]
            store.set(f"ring/{rank}", f"{host} {port} {token.hex()}")
            there, number, theirs = store.get(f"ring/{(rank + 1) % world}").decode().split()
            self._next = socket.create_connection((there, int(number)))
            self._next.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self._next.sendall(bytes.fromhex(theirs))
            self._previous = self._accept(listener, token)

    def _accept(self, listener: socket.socket, token: bytes) -> socket.socket:
        while True:
            connection, _ = listener.accept()
            connection.settimeout(_PATIENCE)
            shown = bytearray(_TOKEN)
            with contextlib.suppress(OSError):  # somebody else, as a port scanner
                _receive(connection, shown)
            if hmac.compare_digest(shown, token):
                connection.settimeout(_LONG)
                return connection
            connection.close()

    def send(self, data: bytearray) -> None:
        """Send ``data`` to the next rank; returns at once, since a rank sends no more before it has received.

        Raises
        ------
        OSError
            if that rank has ended.
        """
        self._next.sendall(data)

    def receive(self, data: bytearray, on_wait: Callable[[], None] = lambda: None) -> None:
        """Fill ``data`` with what the rank before sends, and wait for it.

        Parameters
        ----------
        on_wait
            is called each time when half a minute has passed.

        Raises
        ------
        OSError
            if that rank has ended.
        """
        try:
            _receive(self._previous, data, on_wait)
        except ConnectionError:
            raise ConnectionError(f"rank {self._before} has ended") from None

    def close(self) -> None:
        """Close the connections."""
        self._next.close()
        self._previous.close()


def _own_address(master: str) -> str:
    """The address of this machine from which ``master`` is reached."""
    family = socket.AF_INET6 if ":" in master else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((master, 9))  # sends nothing: it only looks for a route
        return unmapped(str(probe.getsockname()[0]))


def _receive(connection: socket.socket, data: bytearray, on_wait: Callable[[], None] | None = None) -> None:
    rest = memoryview(data)
    while rest:
        try:
            count = connection.recv_into(rest)
        except TimeoutError:
            if on_wait is None:
                raise
            on_wait()
            continue
        if not count:
            raise ConnectionResetError
        rest = rest[count:]
