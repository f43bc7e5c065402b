"""The node programs of one run: how they find each other, and what they tell each other until the end.

Node 0 listens and writes where into the run directory, which all of them see; the others come. The connections stay:
whoever is told to end, or has a rank that failed, says so, and when a program dies its kernel says so. No host name is
resolved.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

from mlnb.node.gang.addresses import (
    LOOPBACK,
    MasterAddress,
    free_port,
    interface_addresses,
    interface_of,
    is_loopback,
    listen_on_all,
)
from mlnb.node.gang.channel import Channel, Message
from mlnb.node.process.identity import boot_id
from mlnb.rundir import Attempt, read_json_fresh, write_json

CONNECT = 2.0
"""Seconds that an address has to answer: where a firewall swallows what we say, the next address is tried soon."""

_HELLO = 5.0
_SOONEST, _LATEST = 0.02, 1.0
_STRANGER = 4096
"""Bytes that are taken from whoever has not shown that it belongs to the run."""


class Rendezvous:
    """The other nodes as one of them sees them; this is a node that is alone."""

    patience = _LATEST
    """Seconds after which :meth:`meet` wants to be called again even if nothing has come."""

    @property
    def complete(self) -> bool:
        """Whether this node need not wait for any other before it ends."""
        return True

    def files(self) -> Sequence[int]:
        """File descriptors to wait on for news."""
        return ()

    def meet(self) -> MasterAddress | None:
        """Take a step towards the others, without waiting long; where the ranks meet once all are there."""
        return MasterAddress(LOOPBACK, free_port(), interface_of(LOOPBACK))

    def missing(self) -> str:
        """Who is not there yet, in words; empty where another node will say so."""
        return ""

    def tell(self, kind: str, **values: object) -> None:
        """Tell the other nodes (node 0) or node 0 (the others)."""

    def news(self) -> list[Message]:
        """What was told: ``kind``, ``node`` and more. ``lost`` says that a node is gone without a goodbye."""
        return []

    def abandon(self) -> list[Message]:
        """Wait no longer for those that have not said goodbye: they are lost."""
        return []

    def close(self) -> None:
        """Let go of all connections: at the end, and in a rank that was forked."""


class Coordinator(Rendezvous):
    """Node 0: the others come to it.

    Parameters
    ----------
    files
        the attempt, in which it leaves word where it is.
    nodes
        how many there are, itself included.
    environ
        may hold ``MASTER_PORT``, where the ranks are to meet.
    """

    def __init__(self, files: Attempt, nodes: int, environ: Mapping[str, str] = os.environ) -> None:
        self._path, self._nodes, self._token = files.rendezvous, nodes, secrets.token_hex(16)
        self._port = int(environ["MASTER_PORT"]) if environ.get("MASTER_PORT", "").isdigit() else None
        self._listener: socket.socket | None = None
        self._strangers: list[tuple[Channel, str, float]] = []
        self._peers: dict[int, Channel] = {}
        self._hosts: dict[int, str] = {}
        self._waiting: set[int] = set()  # nodes that came and have not said goodbye

    @property
    def complete(self) -> bool:
        """See :class:`Gang`."""
        return not self._waiting

    def files(self) -> Sequence[int]:
        """See :class:`Gang`."""
        listener = () if self._listener is None else (self._listener,)
        waited = (*listener, *(channel for channel, _, _ in self._strangers), *self._peers.values())
        return [one.fileno() for one in waited if one.fileno() >= 0]  # -1 is one that broke as we sent

    def meet(self) -> MasterAddress | None:
        """See :class:`Gang`."""
        if self._listener is None:
            self._listener = self._listen()
        self._admit(self._listener)
        if len(self._peers) < self._nodes - 1:
            return None
        self._listener.close()
        for stranger, _, _ in self._strangers:
            stranger.close()
        self._listener, self._strangers = None, []
        return self._introduce()

    def _listen(self) -> socket.socket:
        listener = listen_on_all()
        listener.setblocking(False)
        own = [address for _, address in interface_addresses()]
        where = {"port": listener.getsockname()[1], "addresses": own, "boot": boot_id()}
        write_json(self._path, {**where, "token": self._token})
        return listener

    def _admit(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody is left at the door
                break
            stranger, nonce = Channel(connection), secrets.token_hex(16)
            stranger.send({"nonce": nonce})
            self._strangers.append((stranger, nonce, time.monotonic() + _HELLO))
        for entry in list(self._strangers):
            stranger, nonce, until = entry
            hello = stranger.receive(_STRANGER)
            if hello or stranger.closed or time.monotonic() > until:
                self._strangers.remove(entry)
                if not hello or not self._welcome(stranger, nonce, hello[0]):
                    stranger.close()

    def _welcome(self, channel: Channel, nonce: str, hello: Message) -> bool:
        node = hello.get("node")
        if not hmac.compare_digest(str(hello.get("proof", "")), _proof(self._token, str(node), nonce)):
            channel.send({"refused": "this is another run: the token is wrong"})
        elif not isinstance(node, int) or not 1 <= node < self._nodes or node in self._peers:
            channel.send({"refused": f"node {node} is there already, or is none of the {self._nodes}"})
        else:
            channel.send({"proof": _proof(self._token, "0", str(hello.get("nonce", "")))})
            self._peers[node], self._hosts[node] = channel, str(hello.get("host", "?"))
            self._waiting.add(node)
            return True
        return False

    def _introduce(self) -> MasterAddress:
        """Tell all where the ranks meet: at the address by which another machine has reached this one."""
        port = self._port or free_port()
        outside = [peer.own_address for peer in self._peers.values() if not is_loopback(peer.own_address)]
        mine = outside[0] if outside else LOOPBACK
        here = MasterAddress(mine, port, interface_of(mine))
        for peer in self._peers.values():
            # one that came over the loopback must be found by the others all the same, hence uses what we use
            at = here if is_loopback(peer.own_address) else MasterAddress(peer.own_address, port, None)
            peer.send({"kind": "go", "address": at.address, "port": at.port, "interface": at.interface})
        return here

    def missing(self) -> str:
        """See :class:`Gang`."""
        away = [str(node) for node in range(1, self._nodes) if node not in self._peers]
        return f"node{'s' * (len(away) > 1)} {', '.join(away)} of {self._nodes} did not come"

    def tell(self, kind: str, **values: object) -> None:
        """See :class:`Gang`."""
        for peer in self._peers.values():
            peer.send({"kind": kind, **values})

    def news(self) -> list[Message]:
        """See :class:`Gang`."""
        return [message for node in list(self._peers) for message in self._from(node)]

    def _from(self, node: int) -> Iterator[Message]:
        peer, host = self._peers[node], self._hosts[node]
        for message in peer.receive():
            if message.get("kind") == "ended":
                self._waiting.discard(node)
            yield {**message, "node": node, "host": host}
        if peer.closed:
            del self._peers[node]
            if node in self._waiting:
                self._waiting.discard(node)
                yield {"kind": "lost", "node": node, "host": host}

    def abandon(self) -> list[Message]:
        """See :class:`Gang`."""
        lost: list[Message] = [{"kind": "lost", "node": node, "host": self._hosts[node]} for node in self._waiting]
        self._waiting.clear()
        return lost

    def close(self) -> None:
        """See :class:`Gang`."""
        if self._listener is not None:
            self._listener.close()
        for channel in (*self._peers.values(), *(stranger for stranger, _, _ in self._strangers)):
            channel.close()


class Worker(Rendezvous):
    """A node other than 0: it goes to node 0.

    Parameters
    ----------
    files
        the attempt, in which node 0 leaves word where it is.
    node, host
        which node this is, and its name.
    environ
        may hold ``MASTER_ADDR``, which is then tried first.
    """

    def __init__(self, files: Attempt, node: int, host: str, environ: Mapping[str, str] = os.environ) -> None:
        self._path, self._node, self._host = files.rendezvous, node, host
        self._hint = environ.get("MASTER_ADDR")
        self._lead: Channel | None = None
        self._address = ""
        self._meeting: MasterAddress | None = None
        self._tried = ""
        self._done = False
        self.patience = _SOONEST

    @property
    def complete(self) -> bool:
        """See :class:`Gang`."""
        return self._done or self._lead is None

    def files(self) -> Sequence[int]:
        """See :class:`Gang`."""
        return () if self._lead is None or self._lead.closed else (self._lead.fileno(),)

    def meet(self) -> MasterAddress | None:
        """See :class:`Gang`."""
        if self._lead is None:
            self._lead = self._join()
            self.patience = _LATEST if self._lead else min(_LATEST, 1.3 * self.patience)
        return self._meeting

    def _join(self) -> Channel | None:
        """Try all addresses once."""
        there = read_json_fresh(self._path)  # heartbeats revalidate the folder, too
        if there is None:
            return None
        known = [] if self._hint is None else [self._hint]
        for address in sorted(there["addresses"], key=is_loopback, reverse=True):
            if not is_loopback(address) or there["boot"] == boot_id():
                known.append(address)
        self._tried = f" (tried {', '.join(known)}, port {there['port']})"
        for address in known:
            channel = self._knock(address, there["port"], there["token"])
            if channel is not None:
                self._address = address
                return channel
        return None

    def _knock(self, address: str, port: int, token: str) -> Channel | None:
        """A connection to node 0 at ``address``; ``None`` if that is somebody else: each shows that it knows the token.

        A machine may well have an address that node 0 has too, that of a bridge for containers, say.
        """
        try:
            channel = Channel(socket.create_connection((address, port), CONNECT))
        except OSError:
            return None
        greeting, nonce = channel.expect(_HELLO) or {}, secrets.token_hex(16)
        proof = _proof(token, str(self._node), str(greeting.get("nonce", "")))
        channel.send({"node": self._node, "host": self._host, "nonce": nonce, "proof": proof})
        answer = channel.expect(_HELLO) or {}
        if hmac.compare_digest(str(answer.get("proof", "")), _proof(token, "0", nonce)):
            return channel
        channel.close()
        return None

    def missing(self) -> str:
        """See :class:`Gang`."""
        return "" if self._lead else f"node 0 was not to be found{self._tried}"

    def tell(self, kind: str, **values: object) -> None:
        """See :class:`Gang`."""
        if self._lead is not None:
            self._lead.send({"kind": kind, **values})

    def news(self) -> list[Message]:
        """See :class:`Gang`."""
        lead = self._lead
        if lead is None:
            return []
        found: list[Message] = []
        for message in lead.receive():
            if message.get("kind") == "go":
                carrier = message["interface"] or interface_of(lead.own_address)
                self._meeting = MasterAddress(message["address"], message["port"], carrier)
            else:
                self._done = self._done or message.get("kind") == "done"
                found.append({**message, "node": 0})
        if lead.closed:
            self._lead = None
            if not self._done:
                found.append({"kind": "lost", "node": 0, "host": self._address})
        return found

    def close(self) -> None:
        """See :class:`Gang`."""
        if self._lead is not None:
            self._lead.close()


def create_rendezvous(files: Attempt, node: int, nodes: int, host: str) -> Rendezvous:
    """The others, as ``node`` of ``nodes`` sees them."""
    if nodes == 1:
        return Rendezvous()
    return Coordinator(files, nodes) if node == 0 else Worker(files, node, host)


def _proof(token: str, node: str, nonce: str) -> str:
    """What only one who can read the run directory can say to ``nonce``."""
    return hmac.new(token.encode(), f"node {node}: {nonce}".encode(), "sha256").hexdigest()
