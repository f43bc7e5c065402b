"""A job as its batch system reports it, and the reasons that are the same in all systems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QueuedJob:
    """A job as its system reports it.

    Attributes
    ----------
    state
        ``pending``, ``running`` or ``ended``.
    cause
        the reason in one word; while pending ``resources priority limit dependency impossible hold requeue begin
        down other``; at the end ``completed failed memory time preempted node cancelled launch vanished``.
    reason
        the reason as text: while pending a sentence, with what would start the job sooner; at the end a sentence
        without its subject, which is the job.
    code
        the system's own code for the state or the reason.
    start
        seconds since the epoch: when it started, or when the system expects it to.
    nodes
        the nodes that it holds.
    details
        more, by name: ``comment`` (``mlnb:RUN``), ``submitted`` (seconds since the epoch), ``restarts``, ``array``
        (whether the record is that of an array's waiting tasks together), and what the system itself needs again in
        :meth:`~mlnb.targets.batch.system.System.explain`.
    cleaning_up
        whether the job's program has ended, and the system still clears up after it.
    """

    state: str
    cause: str = ""
    reason: str = ""
    code: str = ""
    start: float | None = None
    nodes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    cleaning_up: bool = False


WAITING = "Waiting for free cores or GPUs"
HELD = "Held by its owner or an administrator"
SUSPENDED = "is suspended"

TIME_LIMIT = ("time", "reached its time limit; a longer --time may help, or --resume")
MEMORY_LIMIT = ("memory", "exceeded its memory limit; more --memory may help")


def exited(exit_code: int, code: str = "") -> QueuedJob:
    """A job whose program ended by itself."""
    return QueuedJob("ended", "failed" if exit_code else "completed", f"ended with exit code {exit_code}", code)


def killed(signal: int, code: str = "") -> QueuedJob:
    """A job whose program was ended by a signal."""
    return QueuedJob("ended", "failed", f"was ended by signal {signal}", code)


_MOST_TASKS = 100_000


def task_indices(text: str) -> tuple[int, ...]:
    """The indices of an array's tasks that share a line: ``0-2,7,10-20:5`` is 0 1 2 7 10 15 20.

    Empty if they can't be parsed, or are more than 100 000.
    """
    tasks: list[int] = []
    for part in text.split(","):
        bounds = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?", part)
        if bounds is None:
            return ()
        indices = range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1, int(bounds[3] or 1) or 1)
        if len(tasks) + len(indices) > _MOST_TASKS:
            return ()
        tasks.extend(indices)
    return tuple(tasks)
