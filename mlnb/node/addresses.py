"""The addresses of this machine, without asking any name service: host names need not resolve."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

_SIOCGIFADDR = 0x8915
"""ioctl(2) request for an interface's IPv4 address, see netdevice(7)."""

LOOPBACK = "127.0.0.1"


def interfaces() -> dict[str, str]:
    """The IPv4 address of each network interface that has one, by name; the loopback's is among them."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has none
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def interface(address: str) -> str | None:
    """The interface that has ``address``; ``None`` where none says so (a second address of one, say)."""
    return next((name for name, own in interfaces().items() if own == address), None)


def is_loopback(address: str) -> bool:
    """Whether only this machine (or container) itself is behind ``address``."""
    return address.startswith("127.")
