"""Starts the jobs of runs: in the end all jobs exist and can be found, or none exists."""

from __future__ import annotations

import contextlib
import getpass
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlnb.errors import MlnbError
from mlnb.files import write_once
from mlnb.rundir import RunDir, write_json
from mlnb.targets.base import SubmissionUnknown, Target


class JobStart:
    """Starts the jobs of some runs: all of them, or none.

    Attributes
    ----------
    has_jobs
        whether the runs have jobs, or may have: then their directories must stay, so that the jobs can be found.
    """

    def __init__(self, runs: Sequence[RunDir], target: Target) -> None:
        self._runs, self._target = runs, target
        self.has_jobs = False

    def start(self, envs: Sequence[Mapping[str, str]]) -> None:
        """Start the jobs, and write how to find them again. An interrupt is delayed until then, and cancels them.

        If it isn't known whether the target accepted a job, its run gets no handle: the target finds the job later, or
        reports that there is none.

        Raises
        ------
        MlnbError
            if the target refuses a job, or a run directory can't be written.
        KeyboardInterrupt
            if it was interrupted.
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
        """Cancel the jobs that may exist."""
        for run in self._runs:
            with contextlib.suppress(MlnbError):
                request_cancel(run, self._target)
        with contextlib.suppress(MlnbError):
            self.has_jobs = not all(self._target.cancel_many(self._runs))


@contextlib.contextmanager
def uninterrupted() -> Iterator[Callable[[], bool]]:
    """Delay SIGINT; yields a function that returns whether it arrived. Does nothing outside the main thread."""
    received: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGINT, previous)


def request_cancel(run: RunDir, target: Target) -> None:
    """Write ``cancel.json``, which tells the run to end and says who cancelled it. A mirror sends it to the job.

    Raises
    ------
    MlnbError
        if it can't be written or sent.
    """
    by = f"{getpass.getuser()} on {socket.gethostname()}"
    write_once(run.cancel, {"by": by, "t": time.time()})
    if target.mirror is not None:
        target.mirror.signal(run, "cancel")
