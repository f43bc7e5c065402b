"""One thread reads what changes in the runs that somebody looks at, once for all who look."""

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
from mlnb.render.summary import head
from mlnb.rundir import FINAL

FAST, SLOW = 0.1, 1.0
"""Seconds between two looks: while there is news, and when there has been none for a while."""

HEAD_EVERY = 0.25
"""Seconds between two heads, unless the state has changed: their words change with every step."""


@dataclass(frozen=True)
class Snapshot:
    """What was read of a run at one moment. Views that have got the head of this ``number`` need not get it again."""

    head: dict[str, Any]
    number: int
    told: dict[str, Series]

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self.head["state"] in FINAL


Tell = Callable[[Snapshot], None]


@dataclass
class _Watched:
    run: Run
    views: list[Tell] = field(default_factory=list)
    last: Snapshot | None = None
    at: float = 0.0


class Poller:
    """Follows runs while somebody looks at them.

    ``tell`` is called from the poller's thread, with a snapshot whenever there is something new; it must not block.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._new = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, run: Run, tell: Tell) -> None:
        """Tell ``tell`` of ``run`` from now on; first what there is."""
        with self._lock:
            watched = self._watched.setdefault(run.id, _Watched(run))
            watched.views.append(tell)
            if watched.last is not None:
                tell(watched.last)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="mlnb-poller", daemon=True)
                self._thread.start()
        self._new.set()

    def leave(self, run_id: str, tell: Tell) -> None:
        """Tell ``tell`` no more; a run that nobody looks at is read no more."""
        with self._lock:
            watched = self._watched.get(run_id)
            if watched is None:
                return
            with contextlib.suppress(ValueError):
                watched.views.remove(tell)
            if not watched.views:
                del self._watched[run_id]

    def _follow(self) -> None:
        pause = FAST
        while True:
            with self._lock:
                watched = list(self._watched.values())
                if not watched:
                    self._thread = None
                    return
            try:
                news = self._look(watched)
            except Exception:  # whatever one run's files hold, the others go on
                logging.getLogger("mlnb").exception("runs could not be read; trying again")
                news = False
            pause = FAST if news else min(SLOW, pause * 1.2)
            if self._new.wait(pause):
                self._new.clear()
                pause = FAST

    def _look(self, watched: list[_Watched]) -> bool:
        """Read all of these and tell whoever looks; whether there was anything new."""
        news = False
        for one, seen in zip(watched, observe([one.run.watched for one in watched]), strict=True):
            one.run.take(seen)
            snapshot = _read(one)
            if snapshot is one.last:
                continue
            news = True
            with self._lock:
                one.last = snapshot
                for tell in one.views:
                    tell(snapshot)
        return news


def _read(one: _Watched) -> Snapshot:
    """The run now; the same snapshot if nothing has changed."""
    told, last, now = one.run.all_series(), one.last, time.monotonic()
    state = one.run.observe()  # as taken just now, before the metrics were read: if it has ended, they are whole
    if last is not None:
        same_points = told.keys() == last.told.keys() and all(told[name] is last.told[name] for name in told)
        same_state = (state.state, state.reason) == (last.head["state"], last.head["reason"])
        if same_state and now - one.at < HEAD_EVERY:
            return last if same_points else Snapshot(last.head, last.number, told)
        said = head(one.run, told, final=state.state in FINAL)
        one.at = now
        if {**said, "updated": 0} != {**last.head, "updated": 0}:
            return Snapshot(said, last.number + 1, told)
        return last if same_points else Snapshot(last.head, last.number, told)
    one.at = now
    return Snapshot(head(one.run, told, final=state.state in FINAL), 1, told)
