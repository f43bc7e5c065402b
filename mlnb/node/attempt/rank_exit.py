"""How a rank ended, by its exit status and its own report, and what that says about a failure."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.node.rank.stop import NO_SPACE, STOPPED
from mlnb.rundir import Attempt, read_json_fresh
from mlnb.units import format_size, signal_name

_CONNECTION_ERRORS = ("gloo/transport", "DistBackendError", "DistNetworkError", "DistStoreError", "ncclRemoteError")
"""Parts of the errors that a rank gets when another rank is gone."""

_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True)
class RankExit:
    """How a rank ended: its wait status (waitpid(2)), and its own report if it left one."""

    rank: int
    status: int
    report: dict[str, Any] | None

    @classmethod
    def read(cls, attempt: Attempt, rank: int, status: int) -> RankExit:
        """The exit of ``rank``, perhaps on another machine, with its report."""
        return cls(rank, status, read_json_fresh(attempt.exit(rank)))

    @property
    def succeeded(self) -> bool:
        """Whether the rank reported success and then exited with code 0. Nothing else counts."""
        return self.status == 0 and (self.report or {}).get("state") == "succeeded"

    @property
    def warning(self) -> str:
        """What the rank found wrong although it succeeded: a loss that is NaN; may be empty."""
        return str((self.report or {}).get("warning", ""))

    @property
    def code(self) -> int:
        """The exit code as shells count: 128 + signal for a killed process."""
        return 128 + os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else os.WEXITSTATUS(self.status)

    @property
    def may_be_consequence(self) -> bool:
        """Whether the rank may have failed because of an event that has not been reported to this node yet.

        Either the batch system stops ranks and node programs in any order, or another rank failed and its connections
        broke.
        """
        error = (self.report or {}).get("error") or {}
        text = f"{error.get('type')}: {error.get('message')}"
        return self.code == STOPPED or any(part in text for part in _CONNECTION_ERRORS)


@dataclass(frozen=True)
class Failure:
    """A rank's failure, as node programs report it to each other.

    Attributes
    ----------
    rank
        the rank as people read it: ``rank 3 on node 1 (host)``.
    reason, exit_code, error
        for the run's result. ``error`` has the traceback, where there is one.
    stopped
        whether the rank was stopped by a signal.
    uncertain
        whether the cause may be another failure, which is about to be reported.
    step
        the step at which the rank was stopped, if it has reported one.
    """

    rank: str
    reason: str
    exit_code: int
    error: dict[str, Any] | None = None
    stopped: bool = False
    uncertain: bool = False
    step: int | None = None


def describe_failure(
    end: RankExit, peak_memory: int, oom_kills: int, *, where: str = "", memory_limit: str = "", alone: bool = True
) -> Failure:
    """Describe why a rank failed.

    Parameters
    ----------
    peak_memory
        bytes that the node's ranks used at most, as sampled.
    oom_kills
        how often the kernel has killed a process for lack of memory since the ranks were started.
    where
        appended to the rank: its node, if there are several.
    memory_limit
        the run's memory limit and who set it, for people; empty without one.
    alone
        whether the run has no other rank.
    """
    rank = f"rank {end.rank}{where}"
    reason, exit_code, error = _describe(end, rank, peak_memory, oom_kills, memory_limit)
    stopped = end.code == STOPPED
    uncertain = end.may_be_consequence and (stopped or not alone)
    return Failure(rank, reason, exit_code, error, stopped, uncertain, (end.report or {}).get("step"))


def _describe(
    end: RankExit, rank: str, peak_memory: int, oom_kills: int, memory_limit: str
) -> tuple[str, int, dict[str, Any] | None]:
    error = (end.report or {}).get("error")
    if error:
        line = f" in {error['source']}, line {error['line']}" if error.get("source") else ""
        message = error.get("memory") or f"{error['type']}: {error['message']}".strip(": ")
        reason = error["message"] if error["type"] == "SystemExit" else f"{rank}{line}: {message}"
        return reason.split("\n")[0], end.code, {**error, "rank": end.rank}
    if os.WIFSIGNALED(end.status):
        number = os.WTERMSIG(end.status)
        reason = f"{rank} was killed by {signal_name(number)}"
        if number == signal.SIGKILL and oom_kills:
            limit = f"{memory_limit}, " if memory_limit else ""  # which a batch system enforces in its own way
            reason += f": out of memory ({format_size(peak_memory)} used in the last sample; {limit}"
            reason += f"this machine has {machine_memory()})"
        elif number in _CRASHES:
            reason += ": native code crashed; the end of its stderr may say where"
        return reason, end.code, None
    if end.code == NO_SPACE:
        return f"{rank} could not write to the run directory (disk full?)", 1, None
    if end.code == STOPPED:
        return f"{rank} was stopped by a signal", end.code, None
    return f"{rank} exited with code {end.code} before the end of the script", end.code or 1, None


def oom_kills() -> int:
    """How often the kernel has killed a process for lack of memory since boot; 0 where it doesn't count."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_memory() -> str:
    """The machine's memory, for people."""
    return format_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
