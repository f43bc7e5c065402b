"""A node other than 0 of a run over several nodes: it connects to node 0, the coordinator."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Mapping, Sequence

from mlnb.node.process.identity import boot_id
from mlnb.node.rendezvous.addresses import MasterAddress, interface_of, is_loopback
from mlnb.node.rendezvous.base import HANDSHAKE_TIMEOUT, POLL, Agreement, Rendezvous, proof
from mlnb.node.rendezvous.channel import Channel, Message
from mlnb.node.rendezvous.endpoint import endpoint_of
from mlnb.rundir import Attempt, read_json_fresh

_CONNECT_TIMEOUT = 2.0
"""Seconds that an address has to answer. Short, since a firewall may drop packets: the next address is tried soon."""

_FIRST_RETRY, _RETRY_GROWTH = 0.02, 1.3
"""Seconds until the second try, and how much longer each wait after that is."""


class Worker(Rendezvous):
    """The coordinator, as a node other than 0 sees it.

    Parameters
    ----------
    files
        the attempt, in which the coordinator writes its addresses.
    node, host
        this node's index, and its host name.
    environ
        may set ``MASTER_ADDR``, which is tried first, and the endpoint of the rendezvous, which alone is tried then.
    """

    def __init__(self, files: Attempt, node: int, host: str, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(checkpoint=lambda: "")  # node 0 chooses
        self._path, self._node, self._host = files.rendezvous, node, host
        self._endpoint = endpoint_of(files, environ)
        self._first_address = environ.get("MASTER_ADDR")
        self._coordinator: Channel | None = None
        self._address = ""
        self._agreement: Agreement | None = None
        self._tried = ""
        self._done = False
        self.poll = _FIRST_RETRY

    @property
    def is_complete(self) -> bool:
        """See :class:`Rendezvous`."""
        return self._done or self._coordinator is None

    def filenos(self) -> Sequence[int]:
        """See :class:`Rendezvous`."""
        return () if self._coordinator is None or self._coordinator.closed else (self._coordinator.fileno(),)

    def connect(self) -> Agreement | None:
        """See :class:`Rendezvous`."""
        if self._coordinator is None:
            self._coordinator = self._try_addresses()
            self.poll = POLL if self._coordinator else min(POLL, _RETRY_GROWTH * self.poll)
        return self._agreement

    def _try_addresses(self) -> Channel | None:
        """Try each of the coordinator's addresses once."""
        if self._endpoint is not None:
            self._address = self._endpoint.host
            self._tried = f" ({self._endpoint.host}, port {self._endpoint.port})"
            return self._authenticate(self._endpoint.host, self._endpoint.port, self._endpoint.token)
        where = read_json_fresh(self._path)
        if where is None:
            return None
        addresses = [] if self._first_address is None else [self._first_address]
        for address in sorted(where["addresses"], key=is_loopback, reverse=True):
            if not is_loopback(address) or where["boot"] == boot_id():
                addresses.append(address)
        self._tried = f" (tried {', '.join(addresses)}, port {where['port']})"
        for address in addresses:
            channel = self._authenticate(address, where["port"], where["token"])
            if channel is not None:
                self._address = address
                return channel
        return None

    def _authenticate(self, address: str, port: int, token: str) -> Channel | None:
        """Connect to ``address``; ``None`` unless both sides prove that they know the token.

        Another machine may have one of node 0's addresses, too, as that of a bridge for containers.
        """
        try:
            channel = Channel(socket.create_connection((address, port), _CONNECT_TIMEOUT))
        except OSError:
            return None
        greeting, nonce = channel.receive_one(HANDSHAKE_TIMEOUT) or {}, secrets.token_hex(16)
        own_proof = proof(token, str(self._node), str(greeting.get("nonce", "")))
        channel.send({"node": self._node, "host": self._host, "nonce": nonce, "proof": own_proof})
        answer = channel.receive_one(HANDSHAKE_TIMEOUT) or {}
        if hmac.compare_digest(str(answer.get("proof", "")), proof(token, "0", nonce)):
            return channel
        channel.close()
        return None

    def describe_missing(self) -> str:
        """See :class:`Rendezvous`."""
        return "" if self._coordinator else f"node 0 could not be reached{self._tried}"

    def send(self, kind: str, **values: object) -> None:
        """See :class:`Rendezvous`."""
        if self._coordinator is not None:
            self._coordinator.send({"kind": kind, **values})

    def receive(self) -> list[Message]:
        """See :class:`Rendezvous`."""
        coordinator = self._coordinator
        if coordinator is None:
            return []
        messages: list[Message] = []
        for message in coordinator.receive():
            if message.get("kind") == "go":
                interface = message["interface"] or interface_of(coordinator.own_address)
                master = MasterAddress(message["address"], message["port"], interface)
                self._agreement = Agreement(master, message["checkpoint"])
            else:
                self._done = self._done or message.get("kind") == "done"
                messages.append({**message, "node": 0})
        if coordinator.closed:
            self._coordinator = None
            if not self._done:
                messages.append({"kind": "lost", "node": 0, "host": self._address})
        return messages

    def close(self) -> None:
        """See :class:`Rendezvous`."""
        if self._coordinator is not None:
            self._coordinator.close()
