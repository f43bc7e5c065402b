"""Signal handlers of a rank: on SIGTERM the script ends at once, or after a checkpoint if one is due soon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import NoReturn

STOPPED = 143
"""Exit code of a rank that ended because of a signal (128 + SIGTERM, as shells count)."""

REQUEUE = 75
"""Exit code by which the node program asks to be queued again (EX_TEMPFAIL of sysexits.h)."""

NO_SPACE = 74
"""Exit code of a rank that could not write its exit file (EX_IOERR of sysexits.h)."""

_stop_requested = False
_terminating = False  # SIGTERM was received, or the script is ending
_checkpoint_due = 0.0  # time.monotonic(); 0 if none is expected
_can_checkpoint_after_batch: Callable[[], bool] | None = None
_writing_checkpoint = False


class Stopped(SystemExit):
    """Raised in the script, wherever it is, to end it: its ``finally`` blocks run."""


def install_handlers() -> None:
    """Handle SIGTERM and SIGUSR1 from now on. SIGINT is ignored: the node program handles it."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGUSR1, _handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ignore_signals() -> None:
    """Ignore signals from now on: the script has ended, and little is left to do."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


def stop_requested() -> bool:
    """Whether this rank has received SIGTERM, or SIGUSR1, the warning that it will."""
    return _stop_requested


def exit_now() -> NoReturn:
    """Raise :class:`Stopped`. Signals that come after this change nothing."""
    global _terminating
    _terminating = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Stopped(STOPPED)


def expect_checkpoint(at: float) -> None:
    """Announce when (``time.monotonic``) the next checkpoint is due; 0 if none is."""
    global _checkpoint_due
    _checkpoint_due = at


def allow_checkpoint_after_batch(possible: Callable[[], bool] | None) -> None:
    """Register ``possible()``: can a checkpoint be made after the batch in training? ``None``: never."""
    global _can_checkpoint_after_batch
    _can_checkpoint_after_batch = possible


@contextmanager
def writing_checkpoint() -> Iterator[None]:
    """Do not end inside of this block: a checkpoint is being written. Look at :func:`stop_requested` after it."""
    global _writing_checkpoint
    _writing_checkpoint = True
    try:
        yield
    finally:
        _writing_checkpoint = False


def _handle(number: int, _: FrameType | None) -> None:
    """Handle SIGUSR1, a warning that ``mlnb.epochs`` looks for at its next checkpoint, and SIGTERM.

    SIGTERM ends the script at once, with two exceptions: if a checkpoint is due within half the grace period, and if
    one can be made after the batch in training. Then the script has half the grace period to get there. Later SIGTERMs
    are ignored (the batch system and the node program may both send one): they must not interrupt the ``finally`` block
    or the checkpoint that the first one led to. That is what the grace period is for.
    """
    global _stop_requested, _terminating
    _stop_requested = True
    if number == signal.SIGTERM and _terminating:
        return
    _terminating = _terminating or number == signal.SIGTERM
    grace = float(os.environ.get("MLNB_GRACE", "0"))
    if number != signal.SIGTERM or _writing_checkpoint or 0 <= _checkpoint_due - monotonic() <= grace / 2:
        return
    if not grace or _can_checkpoint_after_batch is None or not _can_checkpoint_after_batch():
        exit_now()
    signal.signal(signal.SIGALRM, _no_checkpoint_in_time)
    signal.setitimer(signal.ITIMER_REAL, grace / 2)


def _no_checkpoint_in_time(_: int, __: FrameType | None) -> None:
    if not _writing_checkpoint:
        exit_now()
