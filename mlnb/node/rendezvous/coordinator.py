"""Node 0 of a run over several nodes: it accepts the other nodes' connections and relays what happens."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from mlnb.node.process.identity import boot_id
from mlnb.node.rendezvous.addresses import (
    LOOPBACK,
    MasterAddress,
    free_port,
    interface_addresses,
    interface_of,
    is_loopback,
    listen_on_all,
)
from mlnb.node.rendezvous.base import HANDSHAKE_TIMEOUT, Agreement, Rendezvous, proof
from mlnb.node.rendezvous.channel import Channel, Message
from mlnb.node.rendezvous.endpoint import endpoint_of
from mlnb.rundir import Attempt, write_json

_UNAUTHENTICATED_BYTES = 4096
"""Bytes that are read at most from a peer that has not proved that it belongs to the run."""


class Coordinator(Rendezvous):
    """The workers, as node 0 sees them.

    Parameters
    ----------
    files
        the attempt. The coordinator writes its addresses there, and the token that workers must know.
    nodes
        number of nodes, including this one.
    checkpoint
        see :class:`Rendezvous`.
    environ
        may set ``MASTER_PORT``, the port for ``torch.distributed``, and the endpoint of the rendezvous.
    """

    def __init__(
        self, files: Attempt, nodes: int, checkpoint: Callable[[], str], environ: Mapping[str, str] = os.environ
    ) -> None:
        super().__init__(checkpoint)
        self._path, self._nodes = files.rendezvous, nodes
        self._endpoint = endpoint_of(files, environ)
        self._token = secrets.token_hex(16) if self._endpoint is None else self._endpoint.token
        self._port = int(environ["MASTER_PORT"]) if environ.get("MASTER_PORT", "").isdigit() else None
        self._listener: socket.socket | None = None
        self._unauthenticated: list[tuple[Channel, str, float]] = []  # with its nonce and its deadline
        self._workers: dict[int, Channel] = {}
        self._hosts: dict[int, str] = {}
        self._unfinished: set[int] = set()  # nodes that connected and have not reported their ranks' ends

    @property
    def is_complete(self) -> bool:
        """See :class:`Rendezvous`."""
        return not self._unfinished

    def filenos(self) -> Sequence[int]:
        """See :class:`Rendezvous`."""
        listener = () if self._listener is None else (self._listener,)
        peers = (*listener, *(channel for channel, _, _ in self._unauthenticated), *self._workers.values())
        return [peer.fileno() for peer in peers if peer.fileno() >= 0]  # -1: it broke while we were sending

    def connect(self) -> Agreement | None:
        """See :class:`Rendezvous`."""
        if self._listener is None:
            self._listener = self._listen()
        self._accept(self._listener)
        if len(self._workers) < self._nodes - 1:
            return None
        self._listener.close()
        for channel, _, _ in self._unauthenticated:
            channel.close()
        self._listener, self._unauthenticated = None, []
        return self._send_agreement()

    def _listen(self) -> socket.socket:
        if self._endpoint is not None:
            listener = listen_on_all(self._endpoint.port)
            listener.setblocking(False)
            return listener
        listener = listen_on_all()
        listener.setblocking(False)
        addresses = [address for _, address in interface_addresses()]
        where = {"port": listener.getsockname()[1], "addresses": addresses, "boot": boot_id()}
        write_json(self._path, {**where, "token": self._token})
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # no more connections wait
                break
            channel, nonce = Channel(connection), secrets.token_hex(16)
            channel.send({"nonce": nonce})
            self._unauthenticated.append((channel, nonce, time.monotonic() + HANDSHAKE_TIMEOUT))
        for peer in list(self._unauthenticated):
            channel, nonce, end = peer
            hello = channel.receive(_UNAUTHENTICATED_BYTES)
            if hello or channel.closed or time.monotonic() > end:
                self._unauthenticated.remove(peer)
                if not hello or not self._authenticate(channel, nonce, hello[0]):
                    channel.close()

    def _authenticate(self, channel: Channel, nonce: str, hello: Message) -> bool:
        node = hello.get("node")
        if not hmac.compare_digest(str(hello.get("proof", "")), proof(self._token, str(node), nonce)):
            channel.send({"refused": "this is another run: the token is wrong"})
        elif not isinstance(node, int) or not 1 <= node < self._nodes or node in self._workers:
            channel.send({"refused": f"node {node} is connected already, or is none of the {self._nodes}"})
        else:
            channel.send({"proof": proof(self._token, "0", str(hello.get("nonce", "")))})
            self._workers[node], self._hosts[node] = channel, str(hello.get("host", "?"))
            self._unfinished.add(node)
            return True
        return False

    def _send_agreement(self) -> Agreement:
        """Send all workers the agreement; its master address is one of node 0's by which another machine reached it."""
        checkpoint = self._checkpoint()
        port = self._port or free_port()
        reachable = [worker.own_address for worker in self._workers.values() if not is_loopback(worker.own_address)]
        address = reachable[0] if reachable else LOOPBACK
        own = MasterAddress(address, port, interface_of(address))
        for worker in self._workers.values():
            # a worker on this machine must be reachable for the other nodes, too, and so uses the same address
            local = is_loopback(worker.own_address)
            master = own if local else MasterAddress(worker.own_address, port, None)
            values = {"address": master.address, "port": port, "interface": master.interface}
            worker.send({"kind": "go", **values, "checkpoint": checkpoint})
        return Agreement(own, checkpoint)

    def describe_missing(self) -> str:
        """See :class:`Rendezvous`."""
        missing = [str(node) for node in range(1, self._nodes) if node not in self._workers]
        return f"node{'s' * (len(missing) > 1)} {', '.join(missing)} of {self._nodes} did not connect"

    def send(self, kind: str, **values: object) -> None:
        """See :class:`Rendezvous`."""
        for worker in self._workers.values():
            worker.send({"kind": kind, **values})

    def receive(self) -> list[Message]:
        """See :class:`Rendezvous`."""
        return [message for node in list(self._workers) for message in self._receive_from(node)]

    def _receive_from(self, node: int) -> Iterator[Message]:
        worker, host = self._workers[node], self._hosts[node]
        for message in worker.receive():
            if message.get("kind") == "ended":
                self._unfinished.discard(node)
            yield {**message, "node": node, "host": host}
        if worker.closed:
            del self._workers[node]
            if node in self._unfinished:
                self._unfinished.discard(node)
                yield {"kind": "lost", "node": node, "host": host}

    def give_up(self) -> None:
        """See :class:`Rendezvous`."""
        self._unfinished.clear()

    def close(self) -> None:
        """See :class:`Rendezvous`."""
        if self._listener is not None:
            self._listener.close()
        for channel in (*self._workers.values(), *(channel for channel, _, _ in self._unauthenticated)):
            channel.close()
