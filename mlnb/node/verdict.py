"""From how the ranks ended to how the run ended, and why, in words."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.node.rank import NO_SPACE
from mlnb.node.stop import STOPPED
from mlnb.rundir import Attempt, read_json
from mlnb.units import say_size


@dataclass(frozen=True)
class Ended:
    """How a rank ended: its wait status, and its own account if it left one."""

    rank: int
    status: int
    account: dict[str, Any] | None

    @property
    def succeeded(self) -> bool:
        """Only the rank's own word counts, and only with exit code 0."""
        return self.status == 0 and (self.account or {}).get("state") == "succeeded"

    @property
    def code(self) -> int:
        """The exit code as shells count: 128 + signal for a killed process."""
        return 128 + os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else os.WEXITSTATUS(self.status)


def ended(attempt: Attempt, rank: int, status: int) -> Ended:
    """How ``rank`` ended."""
    return Ended(rank, status, read_json(attempt.exit(rank)))


def failure(first: Ended, peak_memory: int, oom_kills: int) -> dict[str, Any]:
    """``reason``, ``exit_code`` and, where there is one, ``error`` of the rank that failed first."""
    account = first.account or {}
    error = account.get("error")
    who = f"rank {first.rank}"
    if error:
        place = f" in {error['source']}, line {error['line']}" if error.get("source") else ""
        what = error.get("memory") or f"{error['type']}: {error['message']}".strip(": ")
        reason = error["message"] if error["type"] == "SystemExit" else f"{who}{place}: {what}"
        return {"reason": reason.split("\n")[0], "exit_code": first.code, "error": {**error, "rank": first.rank}}
    if os.WIFSIGNALED(first.status):
        number = signal.Signals(os.WTERMSIG(first.status))
        reason = f"{who} was killed by {number.name}"
        if number == signal.SIGKILL and oom_kills:
            held = f"the run held {say_size(peak_memory)} at most, of {machine_memory()}"
            reason += f": this machine ran out of memory ({held})"
        elif number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE):
            reason += ": native code crashed; the end of its stderr may say where"
        return {"reason": reason, "exit_code": first.code, "error": None}
    if first.code == NO_SPACE:
        return {
            "reason": f"{who} could not write to the run directory (disk full?)",
            "exit_code": 1,
            "error": None,
        }
    if first.code == STOPPED:
        return {"reason": f"{who} was told to end", "exit_code": first.code, "error": None}
    return {
        "reason": f"{who} left with exit code {first.code} before the end of the script",
        "exit_code": first.code or 1,
        "error": None,
    }


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory since boot (0 where it doesn't say)."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_memory() -> str:
    """The machine's memory in words."""
    return say_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
