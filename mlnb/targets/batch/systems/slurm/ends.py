"""Explains the states and the ends of SLURM's jobs in plain English.

States: squeue(1), JOB STATE CODES. Exit codes: https://slurm.schedmd.com/job_exit_code.html. In 22.05.8 a
job script that was ended by a signal and one that could not be started both have the reason ``JobLaunchFailure``. The
latter has signal 53, which ends no program; it occurs when the folder of the log is missing.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence

from mlnb.targets.batch.request import REQUEUE
from mlnb.targets.batch.systems.slurm.reasons import Explanation
from mlnb.task import Resources
from mlnb.units import format_size, format_time, signal_name

OUT_OF_MEMORY_SIGNAL = 125
"""The signal in the exit code of a job that was out of memory."""

_LAST_SIGNAL = 31
"""The highest ordinary signal of Linux; real-time signals have higher numbers."""

_WAITS = {
    "CONFIGURING": Explanation("other", "Its nodes are being prepared"),
    "POWER_UP_NODE": Explanation("other", "Its nodes are being switched on"),
    "REQUEUED": Explanation("requeue", "Queued again"),
    "REQUEUE_FED": Explanation("requeue", "Queued again, on another cluster of the federation"),
    "REQUEUE_HOLD": Explanation("hold", "Queued again, and held until it is released (scontrol release)"),
    "SPECIAL_EXIT": Explanation("hold", "Queued again for its exit code, and held until it is released"),
    "RESV_DEL_HOLD": Explanation("hold", "Held, since its reservation was deleted"),
}

_RUNS = {
    "RUNNING": "",
    "COMPLETING": "is ending: its nodes are being cleaned up",
    "RESIZING": "is changing its size",
    "SIGNALING": "is being sent a signal",
    "STAGE_OUT": "its data are being copied out of the burst buffer",
    "STOPPED": "is stopped, and keeps its cores; scontrol or an administrator can resume it",
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


def explain_state(state: str) -> Explanation:
    """Explains the state of a job that has not ended; an unknown state is shown as it is."""
    if state in _WAITS:
        return _WAITS[state]
    return Explanation("", _RUNS[state]) if state in _RUNS else Explanation("other", f"SLURM says {state}")


def explain_end(
    state: str,
    exit_code: int | None = None,
    signal: int | None = None,
    *,
    reason: str = "",
    by: int | None = None,
    resources: Resources | None = None,
    nodes: Sequence[str] = (),
) -> Explanation:
    """Explains how a job ended from the state that SLURM reports.

    Parameters
    ----------
    exit_code, signal
        of the job script, as far as they are known.
    reason
        SLURM's reason code, which distinguishes some failures.
    by
        id of the user who cancelled it.
    resources
        what it had requested.
    nodes
        where it ran.
    """
    if state == "OUT_OF_MEMORY" or signal == OUT_OF_MEMORY_SIGNAL or reason == "OutOfMemory":
        had = f" ({format_size(resources.memory)} on each node)" if resources and resources.memory else ""
        return Explanation("memory", f"exceeded its memory limit{had}; more --memory may help")
    if state == "TIMEOUT":
        had = f" ({format_time(resources.time)})" if resources and resources.time else ""
        return Explanation("time", f"reached its time limit{had}; try a longer --time, or --resume")
    if state == "CANCELLED":
        return Explanation("cancelled", f"was cancelled{_canceller(by)}")
    if state == "NODE_FAIL":
        return Explanation("node", _failed_node(nodes))
    if state == "FAILED":
        return _failed(exit_code, signal, reason, nodes)
    return _OTHERS.get(state) or Explanation("failed", f"SLURM says {state}")


_OTHERS = {
    "COMPLETED": Explanation("completed", "SLURM says that it completed"),
    "PREEMPTED": Explanation("preempted", "had to make room for a job of higher priority"),
    "BOOT_FAIL": Explanation("node", "its nodes did not start up"),
    "DEADLINE": Explanation("time", "was ended at its deadline"),
    "REVOKED": Explanation("vanished", "was removed from this cluster, since another of the federation runs it"),
    "LAUNCH_FAILED": Explanation("launch", "its node could not start it"),
    "RECONFIG_FAIL": Explanation("node", "its node could not be made ready for it"),
}


def _failed(exit_code: int | None, signal: int | None, reason: str, nodes: Sequence[str]) -> Explanation:
    if reason == "BadConstraints":
        return Explanation("launch", "could never start: no node has all that it asks for; ask for less or other GPUs")
    if signal is not None and signal > _LAST_SIGNAL:  # for accounting it has no reason
        text = f"the job script could not be started{_where(nodes)}; perhaps the folder of its log can't be written"
        return Explanation("launch", text)
    if reason == "SystemFailure":
        return Explanation("node", "failed with SLURM, a file system or the network")
    if signal:
        return Explanation("failed", f"was ended by {signal_name(signal)}")
    if exit_code == REQUEUE:
        return Explanation("failed", f"asked to be queued again (exit code {REQUEUE}), and was not")
    if exit_code:
        return Explanation("failed", f"ended with exit code {exit_code}")
    return Explanation("failed", f"SLURM says FAILED{f', {reason}' if reason else ''}")


def _canceller(by: int | None) -> str:
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


def _failed_node(nodes: Sequence[str]) -> str:
    """SLURM does not say which of several nodes failed."""
    if len(nodes) == 1:
        return f"its node {nodes[0]} failed"
    return f"one of its {len(nodes)} nodes failed" if nodes else "one of its nodes failed"


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
