"""A thread that reads changes of the displayed runs, once for all their views."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlnb.api import Run
from mlnb.api.read.history import Series
from mlnb.api.read.state import observe
from mlnb.render.summary import summary
from mlnb.rundir import FINAL

FAST, SLOW = 0.1, 1.0
"""Seconds between two readings: while something changes, and when nothing has for a while."""

SUMMARY_INTERVAL = 0.25
"""Seconds between two summaries, unless the state has changed: their numbers change with every step."""


@dataclass(frozen=True)
class Snapshot:
    """A run's summary and metrics at one time.

    Attributes
    ----------
    number
        number of the summary: a view that has received this one does not need it again.
    """

    summary: dict[str, Any]
    number: int
    series: dict[str, Series]

    @property
    def ended(self) -> bool:
        """Whether the run has ended, so that no other snapshot follows."""
        return self.summary["state"] in FINAL


Subscriber = Callable[[Snapshot], None]


@dataclass
class _Followed:
    run: Run
    subscribers: list[Subscriber] = field(default_factory=list)
    last: Snapshot | None = None
    summarised: float = 0.0
    """When the last summary was made, by ``time.monotonic``."""
    reported: bool = False
    """Whether it was logged that the run can't be read."""


class Poller:
    """Follows runs while there are subscribers.

    Subscribers are called in the poller's thread, with a snapshot whenever something is new. They must not block.
    """

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, run: Run, subscriber: Subscriber) -> None:
        """Call ``subscriber`` for ``run`` from now on, first with the last snapshot."""
        with self._lock:
            followed = self._followed.setdefault(run.id, _Followed(run))
            followed.subscribers.append(subscriber)
            if followed.last is not None:
                subscriber(followed.last)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="mlnb-poller", daemon=True)
                self._thread.start()
        self._added.set()

    def unsubscribe(self, run_id: str, subscriber: Subscriber) -> None:
        """Call ``subscriber`` no more; a run without subscribers is not read."""
        with self._lock:
            followed = self._followed.get(run_id)
            if followed is None:
                return
            with contextlib.suppress(ValueError):
                followed.subscribers.remove(subscriber)
            if not followed.subscribers:
                del self._followed[run_id]

    def _follow(self) -> None:
        pause = FAST
        while True:
            with self._lock:
                runs = list(self._followed.values())
                if not runs:
                    self._thread = None
                    return
            try:
                changed = self._poll(runs)
            except Exception:  # as when a subscriber fails
                logging.getLogger("mlnb").exception("runs could not be read; trying again")
                changed = False
            pause = FAST if changed else min(SLOW, pause * 1.2)
            if self._added.wait(pause):
                self._added.clear()
                pause = FAST

    def _poll(self, runs: list[_Followed]) -> bool:
        """Read these runs and call their subscribers; returns whether anything was new."""
        changed = False
        for followed, observation in zip(runs, observe([followed.run.observable for followed in runs]), strict=True):
            followed.run.record(observation)
            try:
                snapshot = _read(followed)
            except Exception:  # one unreadable run must not stop the others
                if not followed.reported:
                    logging.getLogger("mlnb").exception("run %s can't be read; trying again", followed.run.id)
                followed.reported = True
                continue
            followed.reported = False
            if snapshot is followed.last:
                continue
            changed = True
            with self._lock:
                followed.last = snapshot
                for subscriber in followed.subscribers:
                    subscriber(snapshot)
        return changed


def _read(followed: _Followed) -> Snapshot:
    """The run now; the same snapshot if nothing has changed."""
    run, last, now = followed.run, followed.last, time.monotonic()
    series = run.all_series()
    state = run.observe()  # recorded before the metrics were read: so those of an ended run are complete
    final = state.state in FINAL
    if last is None:
        followed.summarised = now
        return Snapshot(summary(run, series, final=final), 1, series)
    same_points = series.keys() == last.series.keys() and all(series[name] is last.series[name] for name in series)
    unchanged = last if same_points else Snapshot(last.summary, last.number, series)
    same_state = (state.state, state.reason) == (last.summary["state"], last.summary["reason"])
    if same_state and now - followed.summarised < SUMMARY_INTERVAL:
        return unchanged
    followed.summarised = now
    new = summary(run, series, final=final)
    if {**new, "updated": 0} == {**last.summary, "updated": 0}:
        return unchanged
    return Snapshot(new, last.number + 1, series)
