"""The rendezvous of a run's node programs, as the node program uses it; here for a run on one node.

Node 0 is the coordinator: it listens, and writes its addresses into the run directory, which all nodes see. The other
nodes, the workers, connect to it. The connections stay open. A node that is stopped, or has a rank that failed, tells
the others; when a node program dies, its kernel closes the connection. No host name is resolved, and no file is needed
in common where the target says where the coordinator listens (:mod:`mlnb.node.rendezvous.endpoint`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlnb.node.rendezvous.addresses import LOOPBACK, MasterAddress, free_port, interface_of
from mlnb.node.rendezvous.channel import Message

HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a peer has to answer before the connection counts."""

POLL = 1.0
"""Seconds between two calls of :meth:`Rendezvous.connect`, unless a message arrives."""


@dataclass(frozen=True)
class Agreement:
    """What node 0 has chosen for all ranks before they start."""

    master: MasterAddress
    checkpoint: str
    """The checkpoint to continue from, relative to the run directory; empty for none."""


class Rendezvous:
    """The other nodes, as one node sees them: none.

    Parameters
    ----------
    checkpoint
        finds the checkpoint to continue from; called by node 0 when all nodes are connected.
    """

    poll = POLL
    """Seconds after which :meth:`connect` has to be called again even if no message has arrived."""

    def __init__(self, checkpoint: Callable[[], str]) -> None:
        self._checkpoint = checkpoint

    @property
    def is_complete(self) -> bool:
        """Whether this node may end without waiting for another."""
        return True

    def filenos(self) -> Sequence[int]:
        """File descriptors that become readable when there is something to do."""
        return ()

    def connect(self) -> Agreement | None:
        """Take the next step of connecting, without blocking long.

        Returns
        -------
        Agreement or None
            the address for ``torch.distributed`` and more, as soon as all nodes are connected.
        """
        return Agreement(MasterAddress(LOOPBACK, free_port(), interface_of(LOOPBACK)), self._checkpoint())

    def describe_missing(self) -> str:
        """Which nodes have not connected, for people; empty if another node will report it."""
        return ""

    def send(self, kind: str, **values: object) -> None:
        """Send a message: node 0 to all others, the others to node 0."""

    def receive(self) -> list[Message]:
        """The messages that have arrived: ``kind``, ``node`` and more.

        ``kind`` is ``lost`` for a node whose connection closed before it reported its ranks' ends.
        """
        return []

    def give_up(self) -> None:
        """Stop waiting for the nodes that have not reported their ranks' ends."""

    def close(self) -> None:
        """Close all connections: at the end, and in each forked rank."""


def proof(token: str, node: str, nonce: str) -> str:
    """The answer to ``nonce`` that only a process that can read the run directory, and so the token, can give."""
    return hmac.new(token.encode(), f"node {node}: {nonce}".encode(), "sha256").hexdigest()
