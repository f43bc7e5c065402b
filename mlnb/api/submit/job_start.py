"""Jobs of runs are started as one step: it is there and known, or there is none, whoever interrupts whatever."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, storage_errors, write_json
from mlnb.targets.base import SubmissionUnknown, Target


class Starting:
    """Runs that are about to have jobs: all of them, or none.

    Attributes
    ----------
    has_jobs
        whether they have, or may have: then their directories must stay, so that the jobs can be followed.
    """

    def __init__(self, runs: Sequence[RunDir], target: Target) -> None:
        self._runs, self._target = runs, target
        self.has_jobs = False

    def start(self, envs: Sequence[Mapping[str, str]]) -> None:
        """Have the jobs started, and note how they are found again. An interrupt waits until then, and cancels them.

        A run of which it isn't known whether the target took its job stays without a handle: the target finds the job
        when it is there, and says so when there is none.

        Raises
        ------
        MlnbError
            if the target refuses a job, or a run directory can't be written.
        KeyboardInterrupt
            if it was interrupted meanwhile.
        """
        with uninterrupted() as interrupted:
            self.has_jobs = True
            try:
                handles = self._submit(envs)
            except SubmissionUnknown:
                handles = []
            except BaseException:
                self.has_jobs = False
                raise
            try:
                for run, handle in zip(self._runs, handles, strict=False):
                    write_json(run.handle, handle)
            except BaseException:
                self._cancel()
                raise
            if interrupted():
                self._cancel()
                raise KeyboardInterrupt

    def _submit(self, envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        if len(self._runs) == 1:
            return [self._target.submit(self._runs[0], envs[0])]
        return self._target.submit_many(self._runs, envs)

    def _cancel(self) -> None:
        """Have the jobs ended that may be there."""
        ended = []
        for run in self._runs:
            ended.append(False)
            with contextlib.suppress(MlnbError):
                order_end(run, self._target)
                ended[-1] = self._target.cancel(run)
        self.has_jobs = not all(ended)


@contextlib.contextmanager
def uninterrupted() -> Iterator[Callable[[], bool]]:
    """Inside SIGINT is only remembered: what is yielded says whether there was one. Other threads never get it."""
    came: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is None:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, usual)


def order_end(run: RunDir, target: Target) -> None:
    """Write down, once, that the run is to end, and who wants it; where the job doesn't see that, have it sent there.

    Raises
    ------
    MlnbError
        if it can't be written or sent.
    """
    by = f"{getpass.getuser()} on {socket.gethostname()}"
    with contextlib.suppress(FileExistsError), storage_errors(run.cancel):
        file = os.open(run.cancel, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as opened:
            json.dump({"by": by, "t": time.time()}, opened)
    if target.mirror is not None:
        target.mirror.signal(run, "cancel")
