"""The states of SLURM's jobs, and how they ended, in plain words.

States: squeue(1), JOB STATE CODES. Exit codes: https://slurm.schedmd.com/job_exit_code.html. Seen of 22.05.8: a job
script that a signal ended and one that could not be started both have the reason ``JobLaunchFailure``; the latter has
signal 53, which is none that programs are ended by. It is so when its log's folder is missing.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence

from mlnb.targets.batch.request import REQUEUE
from mlnb.targets.batch.slurm.reasons import Said
from mlnb.task import Resources
from mlnb.units import format_size, format_time, signal_name

OUT_OF_MEMORY_SIGNAL = 125
"""What stands as the signal in the exit code of a job that was out of memory."""

_LAST_SIGNAL = 31
"""Above it are those that no program is ended by unless it was made to."""

_WAITS = {
    "CONFIGURING": Said("other", "its nodes are being made ready"),
    "POWER_UP_NODE": Said("other", "its nodes are being switched on"),
    "REQUEUED": Said("requeue", "was queued again"),
    "REQUEUE_FED": Said("requeue", "was queued again, on another cluster of the federation"),
    "REQUEUE_HOLD": Said("hold", "was queued again, and is held until it is released (scontrol release)"),
    "SPECIAL_EXIT": Said("hold", "was queued again for its exit code, and is held until it is released"),
    "RESV_DEL_HOLD": Said("hold", "is held, since its reservation was deleted"),
}

_RUNS = {
    "RUNNING": "",
    "COMPLETING": "is ending: what it started on its nodes is being cleared away",
    "RESIZING": "is changing its size",
    "SIGNALING": "is being sent a signal",
    "STAGE_OUT": "its data are being brought out of the burst buffer",
    "STOPPED": "is stopped, and keeps its cores; scontrol or an administrator lets it go on",
    "SUSPENDED": "is suspended: its cores run another job meanwhile",
}

_ENDS = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
    }
)


def phase(state: str) -> str:
    """``pending``, ``running`` or ``ended`` for a state as SLURM writes it; empty for one that isn't known."""
    if state == "PENDING" or state in _WAITS:
        return "pending"
    return "running" if state in _RUNS else "ended" if state in _ENDS else ""


def meanwhile(state: str) -> Said:
    """Cause and words of a job that neither plainly waits nor has ended."""
    if state in _WAITS:
        return _WAITS[state]
    return Said("", _RUNS[state]) if state in _RUNS else Said("other", f"SLURM says {state}")


def ended(
    state: str,
    exit_code: int | None = None,
    signal: int | None = None,
    *,
    reason: str = "",
    by: int | None = None,
    resources: Resources | None = None,
    nodes: Sequence[str] = (),
) -> Said:
    """How a job ended that SLURM says ``state`` of.

    Parameters
    ----------
    exit_code, signal
        of the job script, as far as known.
    reason
        SLURM's reason, which tells some failures apart.
    by
        user id of who cancelled it.
    resources
        what it had asked for.
    nodes
        where it ran.
    """
    if state == "OUT_OF_MEMORY" or signal == OUT_OF_MEMORY_SIGNAL or reason == "OutOfMemory":
        had = f" ({format_size(resources.memory)} on each node)" if resources and resources.memory else ""
        return Said("memory", f"took more memory than it may have{had}; more --memory may help")
    if state == "TIMEOUT":
        had = f" ({format_time(resources.time)})" if resources and resources.time else ""
        return Said("time", f"reached its time limit{had}; a longer --time, or --resume from its newest checkpoint")
    if state == "CANCELLED":
        return Said("cancelled", f"was cancelled{_who(by)}")
    if state == "NODE_FAIL":
        return Said("node", f"a node failed under it{_where(nodes)}")
    if state == "FAILED":
        return _failed(exit_code, signal, reason, nodes)
    return _OTHERS.get(state) or Said("failed", f"SLURM says {state}")


_OTHERS = {
    "COMPLETED": Said("completed", "SLURM says that it completed"),
    "PREEMPTED": Said("preempted", "had to make room for a job of higher priority"),
    "BOOT_FAIL": Said("node", "its nodes did not start up"),
    "DEADLINE": Said("time", "was ended at its deadline"),
    "REVOKED": Said("vanished", "was taken from this cluster, since another of the federation runs it"),
    "LAUNCH_FAILED": Said("launch", "its node could not start it"),
    "RECONFIG_FAIL": Said("node", "its node could not be made ready for it"),
}


def _failed(exit_code: int | None, signal: int | None, reason: str, nodes: Sequence[str]) -> Said:
    if reason == "BadConstraints":
        return Said("launch", "could never start: no node has all that it asks for; ask for less, or for other GPUs")
    if signal is not None and signal > _LAST_SIGNAL:  # for accounting it has no reason
        words = (
            f"the job script could not be started{_where(nodes)}; it is so if the folder of its log can't be written"
        )
        return Said("launch", words)
    if reason == "SystemFailure":
        return Said("node", "SLURM, a file system or the network failed under it")
    if signal:
        return Said("failed", f"was ended by {signal_name(signal)}")
    if exit_code == REQUEUE:
        return Said("failed", f"asked to be queued again (exit code {REQUEUE}), and was not")
    if exit_code:
        return Said("failed", f"ended with exit code {exit_code}")
    return Said("failed", f"SLURM says FAILED{f', {reason}' if reason else ''}")


def _who(by: int | None) -> str:
    if by is None:
        return ""
    if by == os.getuid():
        return " by you"
    if by == 0:
        return " by root (an administrator)"
    try:
        return f" by {pwd.getpwuid(by).pw_name}"
    except (KeyError, OverflowError):
        return f" by user id {by}"


def _where(nodes: Sequence[str]) -> str:
    return f" on {nodes[0]}" if len(nodes) == 1 else f" ({len(nodes)} nodes)" if nodes else ""


def exit_of(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal of ``3:0`` (scontrol, sacct) or of a wait status like ``768`` (squeue's ``exit_code``).

    Where there is a signal the exit code means nothing, and is 0.
    """
    match = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", text.strip())
    if match is None:
        return None, None
    first = int(match[1])
    code, signal = (first, int(match[2])) if match[2] else (first >> 8 & 0xFF, first & 0x7F)
    return (0, signal) if signal else (code, 0)
