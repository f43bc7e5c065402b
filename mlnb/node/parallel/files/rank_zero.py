"""What rank 0 does to files, and how the other ranks of a plain loop learn of it.

Rank 0 keeps a log of its changes to files. The other ranks ask for it through the key-value store of the rendezvous; a
thread of rank 0 answers. Rank 0 begins a change when all others ask: they have read what was there before. It does not
wait long, since they may never come. A loop that changes no file communicates nothing.

A question is answered at the latest when rank 0 has come to its next collective, or to the end of its program: there it
would wait for the rank that asks. It is answered, too, when rank 0 looks for a missing file again and again, since then
it waits for somebody to write it. A rank that would change a file waits a few seconds for rank 0 to begin that change.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

_FOREVER = timedelta(days=7)
_TURN = timedelta(seconds=1)
"""After which a rank that waits looks for signals."""

_PATIENCE = 600.0
"""Seconds after which a rank goes on without an answer: rank 0 may wait for a file that this rank would write."""

_PATIENCE_TO_CHANGE = 5.0
"""Seconds after which a rank changes a file itself: rank 0 may wait for what that makes happen elsewhere."""

_POLL = 0.001
_LATE = 2.0
"""Seconds for which rank 0 waits until all others have come to a change."""

_MISSES = 2
"""Changes in a row to which not all others have come, after which rank 0 waits no more: it makes them alone."""

_LOOKS = 10
"""How often rank 0 looks for a file that is missing until it counts as waiting for it."""

_KEPT = 4096
BEGUN, COMPLETE, FAILED = range(3)


class Log:
    """The changes of rank 0. They are counted anew from each collective to the next.

    Parameters
    ----------
    meetings
        returns how many collectives this rank has begun.
    others
        how many other ranks there are.
    """

    def __init__(self, meetings: Callable[[], int], others: int) -> None:
        self._meetings, self._others = meetings, others
        self._misses = 0  # changes in a row for which not all others have come
        self.asking: dict[int, list[Any]] = {}
        """Questions that were not answered yet: a rank, and the arguments of :meth:`answer`."""
        self._states: dict[tuple[int, str], list[int]] = {}  # of the changes to each path between two collectives
        self._begun: Counter[str] = Counter()  # changes that are not complete, by path
        self._looks: Counter[tuple[int, str]] = Counter()  # for missing files, between two collectives
        self._waiting = -1  # the meeting after which this rank waits for a file
        self._lock = threading.Lock()
        self.has_ended = False
        """Whether rank 0 changes no more files, as far as others have to know."""

    def begin(self, path: str) -> Callable[[int], None]:
        """Rank 0 begins a change; call what is returned when that is ``COMPLETE`` or has ``FAILED``."""
        self._wait_for_others()
        with self._lock:
            states = self._states.setdefault((self._meetings(), path), [])
            number = len(states)
            states.append(BEGUN)
            self._begun[path] += 1
            if len(self._states) > _KEPT:
                for key in list(self._states)[: _KEPT // 2]:
                    del self._states[key]

        def end(state: int) -> None:
            with self._lock:
                states[number] = state
                self._begun[path] -= 1

        return end

    def missed(self, path: str) -> None:
        """Rank 0 has looked for a file that is missing. If it does that again and again, it waits for others."""
        meeting = self._meetings()
        if not any(key[0] == meeting for key in self._looks):
            self._looks.clear()
        self._looks[meeting, path] += 1
        if self._looks[meeting, path] >= _LOOKS:
            self._waiting = meeting

    def _wait_for_others(self) -> None:
        end = time.monotonic() + _LATE
        while self._misses < _MISSES and not self.has_ended:
            ranks = {rank for rank, *question in list(self.asking.values()) if self.answer(*question) is None}
            if len(ranks) >= self._others:
                self._misses = 0
                return
            if time.monotonic() > end:
                self._misses += 1
                return
            time.sleep(_POLL)

    def answer(self, question: str, path: str, number: int, meeting: int) -> int | None:
        """Answer a question of a rank that has come to ``meeting``; ``None`` if that is not possible yet.

        ``does``: whether rank 0 changes ``path`` for the ``number``-th time since the last meeting. ``done``: when that
        change is complete. ``made``: when rank 0 has changed ``path`` since the last meeting.
        ``whole``: when it is not about to change ``path``.
        """
        with self._lock:
            states = list(self._states.get((meeting, path), ()))
            is_whole = not self._begun[path]
        has_gone_on = self.has_ended or self._meetings() > meeting or self._waiting == meeting
        if question == "does" and number < len(states):
            return int(states[number] != FAILED)
        if question == "made" and COMPLETE in states and is_whole:
            return 1
        if (question == "done" and states[number] != BEGUN) or (question == "whole" and is_whole):
            return 1
        return 0 if has_gone_on else None


class Answers:
    """Answers the questions of other ranks, in a thread."""

    def __init__(self, log: Log, store: Any) -> None:
        self._log, self._store = log, store
        threading.Thread(target=self._serve, name="mlnb-files", daemon=True).start()

    def _serve(self) -> None:
        asked, asking = 1, self._log.asking
        try:
            while True:
                key = f"ask/{asked}"
                if not asking:
                    self._wait(key)
                if self._store.check([key]):
                    asking[asked] = json.loads(self._store.get(key))
                    self._store.delete_key(key)
                    asked += 1
                for number, (_, *question) in list(asking.items()):
                    answer = self._log.answer(*question)
                    if answer is not None:
                        del asking[number]
                        self._store.set(f"answer/{number}", str(answer))
                if asking:
                    time.sleep(_POLL)
        except RuntimeError as error:  # the store is gone: the run ends
            if not self._log.has_ended:
                sys.stderr.write(f"mlnb: rank 0 can't tell the others about files any more: {error}\n")

    def _wait(self, key: str) -> None:
        while True:
            try:
                self._store.wait([key], _FOREVER)
            except dist.DistStoreError:
                continue
            return


class Questions:
    """Asks rank 0.

    Parameters
    ----------
    rank
        which rank this is.
    store
        the same as that of :class:`Answers`.
    meetings
        returns how many collectives this rank has begun.
    """

    def __init__(self, rank: int, store: Any, meetings: Callable[[], int]) -> None:
        self._rank, self._store, self._meetings = rank, store, meetings
        self._lock = threading.Lock()
        self._meeting = 0
        self._numbers: Counter[str] = Counter()  # of this rank's changes to each path since the last collective

    def next_change(self, path: str) -> int:
        """The number of this rank's next change of ``path`` since the last collective."""
        with self._lock:
            self._begin_meeting()
            self._numbers[path] += 1
            return self._numbers[path] - 1

    def wait_until_made(self, path: str) -> None:
        """``path`` is missing: wait until rank 0 has made it, or makes it no more."""
        self._ask("made", path)

    def wait_until_whole(self, path: str) -> None:
        """``path`` is there: wait until rank 0 is not about to change it."""
        self._ask("whole", path)

    def does(self, path: str, number: int) -> bool:
        """Whether rank 0 makes the change of ``path`` that is this rank's ``number``-th, and begins it soon."""
        return bool(self._ask("does", path, number, _PATIENCE_TO_CHANGE))

    def wait_until_done(self, path: str, number: int) -> None:
        """Wait until rank 0 has made that change."""
        self._ask("done", path, number)

    def _begin_meeting(self) -> None:
        if self._meeting != self._meetings():
            self._meeting = self._meetings()
            self._numbers.clear()

    def _ask(self, question: str, path: str, number: int = 0, patience: float = _PATIENCE) -> int:
        try:
            asked = self._store.add("asked", 1)
            self._store.set(f"ask/{asked}", json.dumps([self._rank, question, path, number, self._meetings()]))
            key, end = f"answer/{asked}", time.monotonic() + patience
            while time.monotonic() < end:
                try:
                    self._store.wait([key], _TURN)
                except dist.DistStoreError:
                    continue
                answer = int(self._store.get(key))
                self._store.delete_key(key)
                return answer
        except RuntimeError:  # rank 0 is gone: the run ends
            return 0
        return 0
