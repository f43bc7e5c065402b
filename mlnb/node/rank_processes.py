"""The ranks of one node, as processes: started, told, reaped."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from mlnb.node import launch
from mlnb.node.gang.addresses import MasterAddress
from mlnb.node.process.identity import signal_group
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.rundir import RunDir
from mlnb.task import Task


class RankProcesses:
    """The ranks of ``node``. True while any of them lives."""

    def __init__(self, node: int, ranks: int) -> None:
        self._node, self._count = node, ranks
        self._living: dict[int, int] = {}  # pid (and process group) → rank
        self.groups: set[int] = set()
        """The ranks' process groups, those that have ended included."""

    def __bool__(self) -> bool:
        return bool(self._living)

    @property
    def pids(self) -> dict[int, int]:
        """Pids of those that live, by rank."""
        return {rank: pid for pid, rank in self._living.items()}

    def start(
        self,
        run_dir: RunDir,
        run_id: str,
        task: Task,
        *,
        attempt: int,
        meeting: MasterAddress,
        cpus: int,
        guard: OrphanGuard,
        let_go: Callable[[], None],
    ) -> None:
        """Fork them; see :func:`mlnb.node.launch.fork_rank`."""
        for local_rank in range(self._count):
            pid = launch.fork_rank(
                run_dir,
                run_id,
                task,
                local_rank=local_rank,
                node=self._node,
                attempt=attempt,
                meeting=meeting,
                cpus=cpus,
                guard=guard,
                let_go=let_go,
            )
            self._living[pid] = self._node * self._count + local_rank
            self.groups.add(pid)

    def tell(self, number: signal.Signals) -> None:
        """Send each of them a signal."""
        for pid in self._living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End them, and whatever they have started."""
        for pid in self._living:
            signal_group(pid, signal.SIGKILL)

    def reap(self) -> list[tuple[int, int]]:
        """Rank and wait status of those that have ended since the last call; what they left behind is ended too."""
        found = []
        for pid, rank in list(self._living.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._living[pid]
                signal_group(pid, signal.SIGKILL)
                found.append((rank, status))
        return found
