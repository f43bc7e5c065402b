"""Choose a node's part in the rendezvous."""

from __future__ import annotations

from mlnb.node.rendezvous.base import Rendezvous
from mlnb.node.rendezvous.coordinator import Coordinator
from mlnb.node.rendezvous.worker import Worker
from mlnb.rundir import Attempt


def create_rendezvous(files: Attempt, node: int, nodes: int, host: str) -> Rendezvous:
    """The rendezvous as node ``node`` of ``nodes`` takes part in it; ``host`` is this machine's name."""
    if nodes == 1:
        return Rendezvous()
    return Coordinator(files, nodes) if node == 0 else Worker(files, node, host)
