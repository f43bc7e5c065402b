"""The ranks of one node as processes: fork, signal and reap them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from mlnb.node import launch
from mlnb.node.process.identity import signal_group
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.node.rendezvous.base import Agreement
from mlnb.rundir import RunDir
from mlnb.task import Task


class RankProcesses:
    """The ranks of one node; true while any of them is alive.

    Parameters
    ----------
    node
        the node's index, from 0.
    ranks
        number of ranks on each node.
    """

    def __init__(self, node: int, ranks: int) -> None:
        self._node, self._count = node, ranks
        self._ranks: dict[int, int] = {}  # pid, which is the process group too, → rank, of those alive
        self.groups: set[int] = set()
        """The process groups of all ranks, ended ones included."""

    def __bool__(self) -> bool:
        return bool(self._ranks)

    @property
    def pids(self) -> dict[int, int]:
        """Pid of each live rank, by rank."""
        return {rank: pid for pid, rank in self._ranks.items()}

    def start(
        self,
        run_dir: RunDir,
        run_id: str,
        task: Task,
        *,
        attempt: int,
        agreement: Agreement,
        cpus: int,
        is_distributed: bool,
        guard: OrphanGuard,
        close_in_child: Callable[[], None],
    ) -> None:
        """Fork the ranks; see :func:`mlnb.node.launch.fork_rank`."""
        for local_rank in range(self._count):
            pid = launch.fork_rank(
                run_dir,
                run_id,
                task,
                local_rank=local_rank,
                node=self._node,
                attempt=attempt,
                agreement=agreement,
                cpus=cpus,
                is_distributed=is_distributed,
                guard=guard,
                close_in_child=close_in_child,
            )
            self._ranks[pid] = self._node * self._count + local_rank
            self.groups.add(pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to each live rank, but not to the processes that it has started."""
        for pid in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill all ranks and the processes that they have started."""
        for pid in self._ranks:
            signal_group(pid, signal.SIGKILL)

    def reap(self) -> list[tuple[int, int]]:
        """Collect the ranks that have ended since the last call, and kill the processes that they left running.

        Returns
        -------
        list of tuples
            rank and wait status (waitpid(2)).
        """
        ended = []
        for pid, rank in list(self._ranks.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._ranks[pid]
                signal_group(pid, signal.SIGKILL)
                ended.append((rank, status))
        return ended
