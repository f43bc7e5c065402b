"""Decide when and why the ranks of a run stop: warnings, failures, stop requests, and the kill after the grace.

Each node program has one. What stops one node is sent to all; the first reason counts.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict

from mlnb.node.attempt.events import Events
from mlnb.node.attempt.outcome import StopRequest
from mlnb.node.attempt.rank_exit import Failure
from mlnb.node.rank_processes import RankProcesses
from mlnb.node.rendezvous.base import Rendezvous

_UNCERTAIN = 2.0
"""Seconds to wait for the cause of a failure that may be a consequence."""

_LOST_COORDINATOR = 1.0
"""Seconds that the ranks get when node 0 is lost: they can't save a checkpoint any more."""

_OVERDUE = 15.0
"""Seconds after which a node that should have killed its ranks, and hasn't reported, counts as lost."""


class Shutdown:
    """The stop of one node's ranks.

    Parameters
    ----------
    grace
        seconds between SIGTERM and SIGKILL.
    made_checkpoint
        tells whether this attempt has saved a checkpoint.
    """

    def __init__(
        self,
        events: Events,
        ranks: RankProcesses,
        rendezvous: Rendezvous,
        *,
        grace: float,
        made_checkpoint: Callable[[], bool],
    ) -> None:
        self._events, self._ranks, self._rendezvous = events, ranks, rendezvous
        self._grace, self._made_checkpoint = grace, made_checkpoint
        self.request: StopRequest | None = None
        """Why the ranks stop; ``None`` while they needn't."""
        self._warning: StopRequest | None = None
        self._uncertain: tuple[Failure, float] | None = None
        self._terminate_at = self._kill_at = self._give_up_at = math.inf

    @property
    def is_requested(self) -> bool:
        """Whether the ranks have to stop."""
        return self.request is not None

    @property
    def has_warned(self) -> bool:
        """Whether the ranks were warned that they will have to stop."""
        return self._warning is not None

    @property
    def is_undecided(self) -> bool:
        """Whether a failed rank's cause is still unknown."""
        return self._uncertain is not None

    @property
    def next_time(self) -> float:
        """When (``time.monotonic``) :meth:`act` has something to do next."""
        return min(self._terminate_at, self._kill_at, self._uncertain[1] if self._uncertain else math.inf)

    def warn(self, reason: str, detail: str, *, out_of_time: bool = False) -> None:
        """Warn the ranks of all nodes (SIGUSR1) that they will have to stop, so that they save a checkpoint."""
        if self._warning is not None:
            return
        self._warning = StopRequest("failed", reason, detail, can_resume=True, out_of_time=out_of_time)
        self._events.add("warned", why=reason, detail=detail)
        self._ranks.send_signal(signal.SIGUSR1)
        self._rendezvous.send("warn", reason=reason, detail=detail, out_of_time=out_of_time)

    def stop(self, request: StopRequest) -> None:
        """Stop the ranks of all nodes: by SIGTERM, or by SIGINT if a person stops the run. Later requests are ignored.

        After half the grace, SIGTERM follows SIGINT, for code that handles only that.
        """
        if self.request is not None:
            return
        self.request, self._uncertain = request, None
        self._events.add("ending", state=request.state, reason=request.reason, detail=request.detail)
        self._kill_at = time.monotonic() + self._grace
        self._give_up_at = self._kill_at + _OVERDUE
        if request.state == "cancelled":
            self._ranks.send_signal(signal.SIGINT)
            self._terminate_at = time.monotonic() + self._grace / 2
        else:
            self._ranks.send_signal(signal.SIGTERM)
        self._rendezvous.send("stop", request=asdict(request))

    def kill_now(self) -> None:
        """Skip the rest of the grace."""
        self._kill_at = min(self._kill_at, time.monotonic())

    def lose_coordinator(self) -> None:
        """Shorten the grace, since node 0 is lost."""
        self._kill_at = min(self._kill_at, time.monotonic() + _LOST_COORDINATOR)

    def report_failure(self, failure: Failure) -> None:
        """Stop all because a rank has failed; but wait a moment if the cause may be reported soon."""
        stopped_after_warning = failure.stopped and self._warning is not None
        if not failure.uncertain or stopped_after_warning:
            self._fail(failure)
        elif self._uncertain is None and self.request is None:
            self._uncertain = (failure, time.monotonic() + _UNCERTAIN)

    def act(self) -> None:
        """Do what is due: decide on an uncertain failure, kill the ranks, give up on silent nodes."""
        now = time.monotonic()
        if self._uncertain is not None and now >= self._uncertain[1]:
            self._fail(self._uncertain[0])
        if now >= self._terminate_at:
            self._ranks.send_signal(signal.SIGTERM)
            self._terminate_at = math.inf
        if now >= self._kill_at:
            self._ranks.kill()
            self._terminate_at = self._kill_at = math.inf
        if now >= self._give_up_at:
            self._rendezvous.give_up()

    def _fail(self, failure: Failure) -> None:
        warning = self._warning
        if warning is None or not failure.stopped:
            self.stop(StopRequest("failed", failure.reason, failure=failure))
            return
        reason = warning.reason
        if self._made_checkpoint():
            at = "" if failure.step is None else f" at step {failure.step}"
            reason += f". Checkpoint saved{at}"
        detail = f"{warning.detail}; {failure.rank} exited with code {failure.exit_code}"
        self.stop(
            StopRequest("failed", reason, detail, can_resume=True, out_of_time=warning.out_of_time, failure=failure)
        )
