"""The addresses of this machine, without asking any name service: host names need not resolve."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SIOCGIFADDR = 0x8915
"""ioctl(2) request for an interface's IPv4 address, see netdevice(7)."""

_LINK = 0x20
"""Scope in /proc/net/if_inet6 of addresses that mean nothing but behind their own interface."""

_NOT_READY = 0x08 | 0x40
"""Flags there of addresses that are somebody else's, or may be: IFA_F_DADFAILED, IFA_F_TENTATIVE."""

LOOPBACK = "127.0.0.1"


def interface_addresses() -> list[tuple[str, str]]:
    """Names of interfaces and the addresses that they have; those of IPv4 first, the loopback's among them."""
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has none
                continue
            yield name, socket.inet_ntoa(answer[20:24])


def _ipv6() -> Iterator[tuple[str, str]]:
    try:
        rows = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # the kernel has no IPv6, or this is no Linux
        return
    for row in rows:
        address, _, _, scope, flags, name = row.split()
        if int(scope, 16) != _LINK and not int(flags, 16) & _NOT_READY:
            yield name, str(ipaddress.IPv6Address(int(address, 16)))


def interface_of(address: str) -> str | None:
    """The interface that has ``address``; ``None`` where none says so (a second address of one, say)."""
    return next((name for name, one in interface_addresses() if one == address), None)


def is_loopback(address: str) -> bool:
    """Whether only this machine (or container) itself is behind ``address``."""
    return address.startswith("127.") or address == "::1"


def unmapped(address: str) -> str:
    """An address as such, where a socket for both kinds writes one of IPv4 as ``::ffff:10.0.0.1``."""
    return address.removeprefix("::ffff:")


def listen_on_all(port: int = 0) -> socket.socket:
    """A socket that listens on all addresses, of IPv6 too where the kernel has that."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        except OSError:  # it has, and may not be used
            pass
    return socket.create_server(("", port), backlog=128)


@dataclass(frozen=True)
class MasterAddress:
    """Where the ranks of all nodes meet: rank 0's address and port, and the interface by which this node gets there.

    ``interface`` is ``None`` where it isn't known; gloo then looks up this machine's host name, which need not resolve.
    """

    address: str
    port: int
    interface: str | None


def free_port() -> int:
    """A TCP port that is free on all addresses of this machine."""
    with listen_on_all() as probe:
        return int(probe.getsockname()[1])
