"""Makes rank 0 the one that changes files, as long as the code is a plain loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mlnb.node.parallel import store
from mlnb.node.parallel.files.followed_paths import FollowedPaths
from mlnb.node.parallel.files.rank_zero import Answers, Log, Questions
from mlnb.node.parallel.files.shared_files import SharedFiles
from mlnb.node.rank.patches import Patches

_TIMEOUT = timedelta(minutes=5)
_TURN = timedelta(seconds=1)


class FilesOfRanks:
    """The files of this rank's program.

    Parameters
    ----------
    rank, world
        which rank this is, of how many.
    meetings
        returns how many collectives this rank has begun.
    own
        files and folders of mlnb.
    is_elsewhere
        whether this rank is not on rank 0's node.
    """

    def __init__(
        self, rank: int, world: int, meetings: Callable[[], int], own: list[Path], *, is_elsewhere: bool
    ) -> None:
        self._rank, self._world = rank, world
        self._patches = Patches()
        self._has_left = False
        self._store = self._connect()
        self._log = Log(meetings, world - 1) if rank == 0 else None
        if self._log is not None:
            Answers(self._log, self._connect())
        self._files = SharedFiles(
            FollowedPaths(own),
            log=self._log,
            questions=None if rank == 0 else Questions(rank, self._connect(), meetings),
            is_elsewhere=is_elsewhere,
        )

    def _connect(self) -> Any:
        return store.connect("mlnb-files", self._rank, _TIMEOUT)

    def install(self) -> None:
        """From now on rank 0 changes files, and the others wait for it."""
        self._files.install()

        def leaving(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if not sys._getframe(1).f_globals.get("__name__", "").startswith("mlnb."):
                    self.leave()  # before it waits for other ranks
                return original(*args, **kwargs)

            return call

        for module in (dist, dist.distributed_c10d):
            self._patches.wrap(module, "init_process_group", leaving)

    def end(self) -> None:
        """The code of the program has ended, but not on all ranks: rank 0 changes no more files."""
        if self._log is not None:
            self._log.has_ended = True

    def leave(self) -> None:
        """From now on each rank changes files itself: the code distributes its training."""
        self._has_left = True
        self.end()
        self._files.uninstall()

    def finish(self) -> None:
        """The program has ended: rank 0 waits until no other rank can ask."""
        left = self._has_left
        self.leave()
        self._patches.undo()
        if self._rank:
            self._store.set(f"finished/{self._rank}", "1")
        elif not left:
            for other in range(1, self._world):
                while not self._store.check([f"finished/{other}"]):
                    try:
                        self._store.wait([f"finished/{other}"], _TURN)
                    except dist.DistStoreError:
                        continue
