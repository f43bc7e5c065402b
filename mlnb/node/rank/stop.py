"""Signals in a rank: told to end, it ends between two lines of Python, or behind a checkpoint that is near."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import NoReturn

STOPPED = 143
"""Exit code of a rank that ended because it was told to (128 + SIGTERM, as shells count)."""

REQUEUE = 75
"""Exit code by which the node program asks to be queued again (EX_TEMPFAIL of sysexits.h)."""

NO_SPACE = 74
"""Exit code of a rank that could not write its own account (EX_IOERR of sysexits.h)."""

_asked = False
_told = False
_epoch_ends = 0.0
_batch_ends: Callable[[], bool] | None = None
_held = False


class Stopped(SystemExit):
    """Raised in the script where it is when the run is told to end, so that its ``finally`` blocks run."""


def install() -> None:
    """Take SIGTERM and SIGUSR1 from now on; SIGINT is the node program's."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGUSR1, _handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ignore() -> None:
    """Take no more signals: the script has ended, and what is left to do is short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


def asked() -> bool:
    """Whether this rank was told to end, or warned that it will be."""
    return _asked


def honour() -> NoReturn:
    """End now, as asked: signals that follow say nothing new."""
    global _told
    _told = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Stopped(STOPPED)


def expect_checkpoint(at: float) -> None:
    """Say when (``time.monotonic``) the next checkpoint is expected; 0 if none is."""
    global _epoch_ends
    _epoch_ends = at


def expect_batch(ends: Callable[[], bool] | None) -> None:
    """Say what tells whether a checkpoint can be made behind the batch that is being trained on; ``None`` for never."""
    global _batch_ends
    _batch_ends = ends


@contextmanager
def held() -> Iterator[None]:
    """A signal meanwhile is for whoever looks at :func:`asked` behind it: a checkpoint is being written."""
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False


def _handle(number: int, _: FrameType | None) -> None:
    """SIGUSR1 is a warning, which ``mlnb.epochs`` heeds at its next checkpoint.

    SIGTERM ends the script at once, unless that checkpoint is so near that it fits in half the grace, or one can be
    made behind the batch that is being trained on: then the script has half the grace to come there. A second one, as
    where both the batch system and the node program say it, must not end what the first has begun: a ``finally``
    block, or a checkpoint. That is what the grace is for.
    """
    global _asked, _told
    _asked = True
    if number == signal.SIGTERM and _told:
        return
    _told = _told or number == signal.SIGTERM
    grace = float(os.environ.get("MLNB_GRACE", "0"))
    if number != signal.SIGTERM or _held or 0 <= _epoch_ends - monotonic() <= grace / 2:
        return
    if not grace or _batch_ends is None or not _batch_ends():
        honour()
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, grace / 2)


def _give_up(_: int, __: FrameType | None) -> None:
    if not _held:
        honour()
