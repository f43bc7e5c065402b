"""What a batch system has to say beyond what dask-jobqueue knows of it: a class of a few dozen lines each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlnb.task import Resources

REQUEUE = 75
"""Exit code by which the node program asks to be queued again (EX_TEMPFAIL of sysexits.h)."""


@dataclass(frozen=True)
class Ask:
    """One job: what the directives are made from.

    Attributes
    ----------
    name
        the run's name; letters, digits, ``.``, ``_`` and ``-`` only.
    resources
        complete: ``cpus`` a rank, ``memory`` in bytes a node, ``time`` in seconds.
    partition
        queue to submit to; ``None`` leaves it to the system.
    log
        file for what the job script itself prints.
    requeue
        whether the system may queue it again after preemption or the loss of a node.
    gpu_directives
        how the catalogue wants the GPUs asked for; empty for a plain count.
    """

    name: str
    resources: Resources
    log: str
    partition: str | None = None
    account: str | None = None
    requeue: bool = True
    gpu_directives: Sequence[str] = ()


@dataclass(frozen=True)
class Queued:
    """A job as its system reports it.

    Attributes
    ----------
    state
        ``pending``, ``running`` or ``ended``.
    cause
        the reason, normalised: while pending ``resources priority limit dependency impossible hold requeue begin
        down other``; at the end ``completed failed memory time preempted node cancelled launch vanished``.
    words
        the reason in plain words, with what would start it sooner or what to do.
    code
        the system's own word for it.
    start
        seconds since the epoch: when it started, or when the system expects it to.
    nodes
        the nodes it holds.
    """

    state: str
    cause: str = ""
    words: str = ""
    code: str = ""
    start: float | None = None
    nodes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
