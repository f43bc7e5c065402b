"""Signal handlers of a rank: on SIGTERM the script ends at once, or after a checkpoint if one is due soon.

A person's Stop is SIGINT, and to the script KeyboardInterrupt, as in a notebook.
"""

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

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""The signals that a rank handles."""

_stop_requested = False
_terminating = False  # SIGTERM or SIGINT was received, or the script is ending
_interrupting = False  # it was SIGINT
_checkpoint_due = 0.0  # time.monotonic(); 0 if none is expected
_can_checkpoint_after_batch: Callable[[], bool] | None = None
_writing_checkpoint = False


class Stopped(SystemExit):
    """Raised in the script, wherever it is, to end it: its ``finally`` blocks run."""


class Interrupted(KeyboardInterrupt):
    """Raised in the script, wherever it is, when a person stops the run. The script may catch it and go on."""


def install_handlers() -> None:
    """Handle SIGTERM, SIGINT and SIGUSR1 from now on."""
    for number in SIGNALS:
        signal.signal(number, _handle)


def ignore_signals() -> None:
    """Ignore signals from now on: the script has ended, and little is left to do."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


def stop_requested() -> bool:
    """Whether this rank has received SIGTERM or SIGINT, or SIGUSR1, the warning that it will."""
    return _stop_requested


def was_interrupted() -> bool:
    """Whether a person has stopped the run."""
    return _interrupting


def exit_now() -> NoReturn:
    """Raise :class:`Interrupted` if a person stops the run, else :class:`Stopped`. Later signals change nothing."""
    global _terminating
    _terminating = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Interrupted if _interrupting else Stopped(STOPPED)


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
    """Handle SIGUSR1, a warning that ``mlnb.epochs`` looks for at its next checkpoint, SIGTERM and SIGINT.

    SIGTERM and SIGINT end the script at once, with two exceptions: if a checkpoint is due within half the grace period,
    and if one can be made after the batch in training. The script has half the grace period to get there, and at least
    a quarter from when the checkpoint is due; then it ends where it is. Later signals are ignored (the batch system and
    the node program may both send one): they must not interrupt the ``finally`` block or the checkpoint that the first
    one led to. That is what the grace period is for.
    """
    global _stop_requested, _terminating, _interrupting
    _stop_requested = True
    ends = number != signal.SIGUSR1
    if ends and _terminating:
        return
    _terminating = _terminating or ends
    _interrupting = _interrupting or number == signal.SIGINT
    grace = float(os.environ.get("MLNB_GRACE", "0"))
    if not ends or _writing_checkpoint:
        return
    due_in = _checkpoint_due - monotonic()
    is_due = 0 <= due_in <= grace / 2
    if not grace or not (is_due or (_can_checkpoint_after_batch is not None and _can_checkpoint_after_batch())):
        exit_now()
    signal.signal(signal.SIGALRM, _no_checkpoint_in_time)
    signal.setitimer(signal.ITIMER_REAL, max(grace / 2, due_in + grace / 4))


def _no_checkpoint_in_time(_: int, __: FrameType | None) -> None:
    if not _writing_checkpoint:
        exit_now()
