"""List this machine's IP addresses without a name service, so that host names need not resolve."""

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
"""Scope in /proc/net/if_inet6 of link-local addresses, which mean nothing without their interface."""

_NOT_READY = 0x08 | 0x40
"""Flags there of addresses that another machine may have: IFA_F_DADFAILED, IFA_F_TENTATIVE (rtnetlink(7))."""

LOOPBACK = "127.0.0.1"


def interface_addresses() -> list[tuple[str, str]]:
    """Each interface's name and address: IPv4 first, then IPv6; the loopback is included."""
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has no address
                continue
            yield name, socket.inet_ntoa(answer[20:24])


def _ipv6() -> Iterator[tuple[str, str]]:
    try:
        rows = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # no IPv6, or not Linux
        return
    for row in rows:
        address, _, _, scope, flags, name = row.split()
        if int(scope, 16) != _LINK and not int(flags, 16) & _NOT_READY:
            yield name, str(ipaddress.IPv6Address(int(address, 16)))


def interface_of(address: str) -> str | None:
    """The interface with this address; ``None`` if none is listed with it, as for an interface's second address."""
    return next((name for name, listed in interface_addresses() if listed == address), None)


def is_loopback(address: str) -> bool:
    """Whether an address reaches only this machine (or container) itself."""
    return address.startswith("127.") or address == "::1"


def unmapped(address: str) -> str:
    """An IPv4 address without the prefix that an IPv6 socket puts before it (``::ffff:10.0.0.1``)."""
    return address.removeprefix("::ffff:")


def listen_on_all(port: int = 0) -> socket.socket:
    """A socket that listens on all addresses, IPv6 included where there is any."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        except OSError:  # the kernel has IPv6, but it may not be used
            pass
    return socket.create_server(("", port), backlog=128)


@dataclass(frozen=True)
class MasterAddress:
    """Where ``torch.distributed`` connects to rank 0 (``MASTER_ADDR``, ``MASTER_PORT``), and by which interface.

    ``interface`` is ``None`` if unknown. gloo then looks up this machine's host name, which may not resolve.
    """

    address: str
    port: int
    interface: str | None


def free_port() -> int:
    """A TCP port that no process on this machine listens on."""
    with listen_on_all() as probe:
        return int(probe.getsockname()[1])
