"""The key-value store of the ranks, which rank 0 serves on the port of the rendezvous.

Code that makes a process group of its own shares the port and the server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from datetime import timedelta
from typing import Any

import torch.distributed as dist

_TURN = 0.005
"""Seconds between two looks whether rank 0 listens."""


def connect(prefix: str, rank: int, timeout: timedelta) -> Any:
    """Connect to the store; rank 0 serves it from its first call on.

    Parameters
    ----------
    prefix
        is put before each key.
    timeout
        for the connection, and for each key that is waited for.

    Returns
    -------
    torch.distributed.Store

    Raises
    ------
    torch.distributed.DistError
        if rank 0 doesn't listen within ``timeout``.
    """
    address, port = os.environ["MLNB_MASTER_ADDR"], int(os.environ["MLNB_MASTER_PORT"])
    if rank:
        _wait_for_listener(address, port, timeout.total_seconds())
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, None, rank == 0, timeout, wait_for_workers=False, multi_tenant=True
    )
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def exchange(store: Any, rank: int, world: int, text: str) -> list[str]:
    """Return what each rank tells by ``text``, when all have called this; once in a run.

    Ranks wait by looks: a wait of torch would let no signal through. Rank 0 stays until all have looked.
    """
    store.set(f"told/{rank}", text)
    _wait_for(store, [f"told/{other}" for other in range(world)])
    texts = [store.get(f"told/{other}").decode() for other in range(world)]
    store.set(f"read/{rank}", "")
    if not rank:
        _wait_for(store, [f"read/{other}" for other in range(world)])
    return texts


def _wait_for(store: Any, keys: list[str]) -> None:
    while not store.check(keys):
        time.sleep(_TURN)


def _wait_for_listener(address: str, port: int, patience: float) -> None:
    """Wait until a process listens: torch, if it is refused once, waits for half a second."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=patience):
            return
        time.sleep(_TURN)
