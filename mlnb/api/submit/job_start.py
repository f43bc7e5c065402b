"""A run's job is started as one step: it is there and known, or there is none, whoever interrupts whatever."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, storage_errors, write_json
from mlnb.targets.base import SubmissionUnknown, Target


class Starting:
    """A run that is about to have a job.

    Attributes
    ----------
    job
        whether it has one, or may have: then its directory must stay, so that it can be followed.
    """

    def __init__(self, run: RunDir, target: Target) -> None:
        self._run, self._target = run, target
        self.job = False

    def start(self, env: Mapping[str, str]) -> None:
        """Have the job started and note how it is found again. An interrupt waits until then, and takes it back.

        A run of which it isn't known whether the target took its job stays without a handle: the target finds the job
        when it is there, and says so when there is none.

        Raises
        ------
        MlnbError
            if the target refuses the job, or the run directory can't be written.
        KeyboardInterrupt
            if it was interrupted meanwhile.
        """
        with uninterrupted() as interrupted:
            self.job = True
            try:
                handle = self._target.submit(self._run, env)
            except SubmissionUnknown:
                handle = None
            except BaseException:
                self.job = False
                raise
            try:
                if handle is not None:
                    write_json(self._run.handle, handle)
            except BaseException:
                self._take_back()
                raise
            if interrupted():
                self._take_back()
                raise KeyboardInterrupt

    def _take_back(self) -> None:
        """Have the job ended that may be there."""
        with contextlib.suppress(MlnbError):
            order_end(self._run, self._target)
            self.job = not self._target.cancel(self._run)


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
