"""Choose a node's part in the rendezvous."""

from __future__ import annotations

from collections.abc import Callable

from mlnb.node.rendezvous.base import Rendezvous
from mlnb.node.rendezvous.coordinator import Coordinator
from mlnb.node.rendezvous.worker import Worker
from mlnb.rundir import Attempt


def create_rendezvous(files: Attempt, node: int, nodes: int, host: str, *, checkpoint: Callable[[], str]) -> Rendezvous:
    """The rendezvous as node ``node`` of ``nodes`` takes part in it; ``host`` is this machine's name.

    Node 0 calls ``checkpoint`` for the checkpoint that all ranks continue from.
    """
    if nodes == 1:
        return Rendezvous(checkpoint)
    return Coordinator(files, nodes, checkpoint) if node == 0 else Worker(files, node, host)
