"""Decide how an attempt ended, and say why, from the stop request and the ranks' exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlnb.node.attempt.events import INTERRUPTED
from mlnb.node.attempt.rank_exit import Failure, RankExit
from mlnb.node.rank.stop import REQUEUE, STOPPED
from mlnb.rundir import Attempt


@dataclass(frozen=True)
class StopRequest:
    """Why all ranks have to stop.

    Attributes
    ----------
    state
        the state that the run gets: a member of ``mlnb.rundir.STATES``.
    reason
        for people, without a full stop.
    detail
        signals and exit codes that explain the reason.
    can_resume
        whether another attempt could resume from a checkpoint of this one.
    by_system
        whether the batch system stops the job, and queues it again by itself.
    out_of_time
        whether more time would have helped.
    failure
        the failure of a rank, if that is the reason.
    """

    state: str
    reason: str
    detail: str = ""
    can_resume: bool = False
    by_system: bool = False
    out_of_time: bool = False
    failure: Failure | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StopRequest:
        """The inverse of ``dataclasses.asdict``."""
        failure = data.get("failure")
        return cls(**{**data, "failure": Failure(**failure) if failure else None})


@dataclass(frozen=True)
class Outcome:
    """How the attempt ended: the run's state or ``INTERRUPTED``, why, the exit code, and a rank's error."""

    state: str
    reason: str
    code: int
    error: dict[str, Any] | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its part of the run's result."""
        return {"state": self.state, "reason": self.reason, "exit_code": self.code, "error": self.error}

    @property
    def program_code(self) -> int:
        """The node program's exit code. A script's own exit code must not look like a request to be queued again."""
        return 1 if self.state != INTERRUPTED and self.code == REQUEUE else self.code


def is_superseded(attempt: Attempt) -> bool:
    """Whether a later attempt exists: the batch system has started the job elsewhere, as after losing this node."""
    return attempt.path.with_name(f"{attempt.number + 1:03d}").exists()


def decide_outcome(
    request: StopRequest | None,
    exits: Sequence[RankExit],
    world_size: int,
    *,
    may_requeue: bool,
    made_checkpoint: bool,
    resume_name: str = "",
) -> Outcome:
    """Decide how the attempt ended.

    Parameters
    ----------
    request
        why the ranks were stopped, if they were.
    exits
        the known exits, of ``world_size`` ranks.
    may_requeue
        whether the job may be queued again.
    made_checkpoint
        whether this attempt has saved a checkpoint. Without one, the next attempt would come no further.
    resume_name
        the run's name, if there is a checkpoint that the user may resume from.
    """
    if len(exits) == world_size and all(end.succeeded for end in exits):
        # it was done before it could be stopped; its reason says what is wrong nevertheless
        return Outcome("succeeded", "; ".join(filter(None, (end.warning for end in exits))), 0)
    if request is None:
        request = StopRequest("failed", "not every rank reported how it ended")
    reason = request.reason
    if may_requeue and request.by_system:
        return Outcome(INTERRUPTED, reason, STOPPED, detail=request.detail)
    if may_requeue and request.can_resume:
        if made_checkpoint:
            return Outcome(INTERRUPTED, reason, REQUEUE, detail=request.detail)
        reason += ". No checkpoint was saved in this attempt (mlnb.epochs saves them)"
    elif resume_name and (request.can_resume or request.by_system):
        longer = " and a longer --time" if request.out_of_time else ""
        reason += f". Continue with --resume {resume_name}{longer}"
    failure = request.failure if request.state == "failed" else None
    code, error = (failure.exit_code or 1, failure.error) if failure else (1, None)
    return Outcome(request.state, reason, code, error, request.detail)


def collect_notes(outcome: Outcome, exits: Sequence[RankExit], script: str) -> list[str]:
    """Notes for the user: the ranks' own, what is odd about the run, and details of its end."""
    reports = [end.report or {} for end in exits]
    notes = list(dict.fromkeys(str(note) for report in reports for note in report.get("notes", ())))
    trains = any(call in script for call in (".backward(", ".step(", ".fit("))
    trained = any((report.get("trained") or {}).get("backwards") for report in reports)
    if outcome.state == "succeeded" and trains and not trained:
        notes.append("No loss curve: backward() was not called. mlnb.log(score=…) adds one.")
    return [*notes, outcome.detail] if outcome.detail else notes
