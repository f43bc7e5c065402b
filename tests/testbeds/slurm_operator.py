"""What only root may do to the SLURM testbed: kill its daemons, start them again, change its nodes.

A test session of root does it itself. One of an ordinary user asks the process of root that has started it, see
``as_ordinary.py``: through a socket of that user's own, with a key.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from pathlib import Path

import pytest

from tests.testbeds import machine
from tests.waiting import until

NODES = ("node1", "node2", "node3")
_SOCKET, _KEY = "MLNB_OPERATOR", "MLNB_OPERATOR_KEY"


class Operator:
    """Whoever looks after the testbed in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped: list[tuple[str, ...]] = []

    def kill_node(self, node: str) -> None:
        """``kill -9`` the daemon of a node."""
        number = machine.pid(self._folder / "run" / f"slurmd-{node}.pid", "slurmd")
        assert number is not None
        os.kill(number, signal.SIGKILL)
        self._stopped.append(("/usr/sbin/slurmd", "-N", node))

    def stop_control(self) -> None:
        """End the controller."""
        machine.stop([(self._folder / "run" / "slurmctld.pid", "slurmctld")], 10)
        self._stopped.append(("/usr/sbin/slurmctld",))

    def scontrol(self, *words: str) -> None:
        """Run ``scontrol``; an assertion if it fails."""
        assert machine.output("scontrol", *words) is not None, words

    def mend(self) -> None:
        """Start what was stopped, and have the nodes take jobs."""
        while self._stopped:
            machine.daemon(*self._stopped.pop(), env={"SLURM_CONF": str(self._folder / "slurm.conf")})
        until(self._good)

    def _good(self) -> bool:
        listed = machine.output("sinfo", "-h", "-N", "-o", "%N %T") or ""
        states = dict(line.split() for line in listed.splitlines())
        for node, state in states.items():
            if state.startswith(("down", "drain")):
                machine.output("scontrol", "update", f"nodename={node}", "state=resume")
        return set(states) == set(NODES) and set(states.values()) <= {"idle", "mixed", "allocated", "completing"}


class _Manager(BaseManager):
    """Carries the calls."""


def here(folder: Path) -> Operator:
    """The operator of the testbed in ``folder``: this session's own, or the one that it may ask."""
    if os.geteuid() == 0:
        return Operator(folder)
    if _SOCKET not in os.environ:
        pytest.skip("to stop SLURM's daemons takes root")
    _Manager.register("operator")
    manager = _Manager(os.environ[_SOCKET], os.environ[_KEY].encode())
    manager.connect()
    return manager.operator()  # type: ignore[attr-defined, no-any-return]


@contextmanager
def for_user(folder: Path, socket: Path, uid: int) -> Iterator[dict[str, str]]:
    """Answer the sessions of a user at ``socket``, in a thread; what their environment has to say."""
    operator, key = Operator(folder), os.urandom(16).hex()
    _Manager.register("operator", lambda: operator)
    server = _Manager(str(socket), key.encode()).get_server()
    os.chown(socket, uid, -1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {_SOCKET: str(socket), _KEY: key}
    finally:
        server.listener.close()
        operator.mend()
