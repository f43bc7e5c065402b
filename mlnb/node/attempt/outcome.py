"""From how the ranks ended to how the run ended, and why, in words."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlnb.node.attempt.events import INTERRUPTED
from mlnb.node.rank.stop import NO_SPACE, REQUEUE, STOPPED
from mlnb.rundir import Attempt, read_json_fresh
from mlnb.units import format_size, signal_name


@dataclass(frozen=True)
class StopRequest:
    """Why all ranks are to end.

    Attributes
    ----------
    state
        what the run is to be: a word of ``mlnb.rundir.STATES``.
    again
        whether another attempt could go on from a checkpoint that this one has made.
    by_system
        whether it was the batch system's will, which then queues the job again by itself.
    failure
        what :func:`failure` found, where a rank's failure is the reason.
    """

    state: str
    reason: str
    again: bool = False
    by_system: bool = False
    failure: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """How the attempt ended: a state of the run or ``INTERRUPTED``, why, its exit code, a rank's error."""

    state: str
    reason: str
    code: int
    error: dict[str, Any] | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What the result says of it."""
        return {"state": self.state, "reason": self.reason, "exit_code": self.code, "error": self.error}

    @property
    def leaves_with(self) -> int:
        """The node program's exit code. That of a script must not look like a wish to be queued again."""
        return 1 if self.state != INTERRUPTED and self.code == REQUEUE else self.code


@dataclass(frozen=True)
class RankExit:
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


def read_rank_exit(attempt: Attempt, rank: int, status: int) -> RankExit:
    """How ``rank`` ended, perhaps on another machine."""
    return RankExit(rank, status, read_json_fresh(attempt.exit(rank)))


def is_superseded(attempt: Attempt) -> bool:
    """Whether a later attempt is under way: the system gave this one up, as where it lost sight of the node."""
    return attempt.path.with_name(f"{attempt.number + 1:03d}").exists()


def outcome(
    ending: StopRequest | None, ended: list[RankExit], world: int, *, requeue: bool, progress: bool, resumable: str = ""
) -> Outcome:
    """How the attempt ended.

    Parameters
    ----------
    ending
        why the ranks were told to end, if they were.
    ended
        how those ended that are known of, of ``world``.
    requeue
        whether the job may be queued again.
    progress
        whether this attempt has made a checkpoint. Without one, another attempt would come as far as this one did.
    resumable
        the run's name, if there is a checkpoint that a person may go on from.
    """
    if len(ended) == world and all(end.succeeded for end in ended):
        return Outcome("succeeded", "", 0)  # it was through, perhaps before it could be stopped
    if ending is None:
        ending = StopRequest("failed", "not every rank left an account of its end")
    if requeue and ending.by_system:
        return Outcome(INTERRUPTED, ending.reason, STOPPED)
    if requeue and ending.again:
        if progress:
            return Outcome(INTERRUPTED, ending.reason, REQUEUE)
        reason = f"{ending.reason}; no checkpoint was made in this attempt (mlnb.epochs makes them)"
        ending = replace(ending, reason=reason)
    elif resumable and (ending.again or ending.by_system):
        hint = f"--resume {resumable} goes on from its newest checkpoint"
        ending = replace(ending, reason=f"{ending.reason}; {hint}")
    found = ending.failure if ending.state == "failed" and ending.failure else {}
    return Outcome(ending.state, ending.reason, found.get("exit_code") or 1, found.get("error"))


def may_be_consequence(first: RankExit) -> bool:
    """Whether this failure may well be the consequence of something that nobody has heard of yet.

    Of the system's telling everything to end, ranks and node programs, in whatever order; or of another rank's
    failure, whose connections break.
    """
    error = (first.account or {}).get("error") or {}
    return first.code == STOPPED or any(word in f"{error.get('type')}: {error.get('message')}" for word in _BROKEN)


_BROKEN = ("gloo/transport", "DistBackendError", "DistNetworkError", "DistStoreError", "ncclRemoteError")


def describe_failure(
    first: RankExit, peak_memory: int, oom_kills: int, where: str = "", bound: str = ""
) -> dict[str, Any]:
    """``reason``, ``exit_code`` and, where there is one, ``error`` of the rank that failed first.

    ``where`` is put behind the rank: its node, where there are several. ``bound`` says what memory it was to have.
    """
    account = first.account or {}
    error = account.get("error")
    who = f"rank {first.rank}{where}"
    if error:
        place = f" in {error['source']}, line {error['line']}" if error.get("source") else ""
        what = error.get("memory") or f"{error['type']}: {error['message']}".strip(": ")
        reason = error["message"] if error["type"] == "SystemExit" else f"{who}{place}: {what}"
        return {"reason": reason.split("\n")[0], "exit_code": first.code, "error": {**error, "rank": first.rank}}
    if os.WIFSIGNALED(first.status):
        number = os.WTERMSIG(first.status)
        reason = f"{who} was killed by {signal_name(number)}"
        if number == signal.SIGKILL and oom_kills:
            allowed = f"{bound}, " if bound else ""  # which a batch system enforces in its own way
            reason += f": out of memory ({format_size(peak_memory)} held when last looked at; {allowed}"
            reason += f"this machine has {machine_memory()})"
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


def notes(found: Outcome, ended: list[RankExit], script: str) -> list[str]:
    """What the ranks have to say of their run, and what is odd about it."""
    accounts = [end.account or {} for end in ended]
    said = [str(note) for account in accounts for note in account.get("notes", ())]
    meant = any(word in script for word in (".backward(", ".step(", ".fit("))
    trained = any((account.get("trained") or {}).get("backwards") for account in accounts)
    if found.state == "succeeded" and meant and not trained:
        said.append("no training step was seen: neither backward() nor an optimizer's step()")
    return said


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
    return format_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
