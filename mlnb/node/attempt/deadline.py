"""How long a node program may go on, and when it is to say that the end is near."""

from __future__ import annotations

import time

from mlnb.units import format_time

_LAST_WORDS = 2.0
"""Seconds to write the result in, before the batch system ends the node program."""


class Deadline:
    """The time of one attempt.

    Parameters
    ----------
    limit
        seconds that it may run, or ``None``.
    deadline
        when the batch system ends it, in seconds since the epoch, or ``None``. ``grace`` seconds before that the
        ranks must be told, so that they have that long to end.
    """

    def __init__(self, limit: float | None, deadline: float | None, grace: float) -> None:
        self._began = time.monotonic()
        self._ends: float | None = None
        self._words = ""
        if limit is not None:
            self._ends, self._words = self._began + limit, f"it ran for the {limit:.0f} s that --time allows"
        if deadline is not None:
            ends = self._began + deadline - time.time() - grace - _LAST_WORDS
            if self._ends is None or ends < self._ends:
                self._ends, self._words = ends, f"after {format_time(max(0.0, ends - self._began))} the job had to end"

    @property
    def left(self) -> float:
        """Seconds until the ranks are to be told to end; negative if that should have been."""
        return float("inf") if self._ends is None else self._ends - time.monotonic()

    @property
    def is_short(self) -> bool:
        """Whether it is time to warn the ranks: a tenth of it all is left, or a minute."""
        return self._ends is not None and self.left <= min(60.0, 0.1 * (self._ends - self._began))

    @property
    def is_over(self) -> bool:
        """Whether the ranks are to be told to end now."""
        return self.left <= 0

    @property
    def verdict(self) -> str:
        """Why it is over, in words."""
        return f"out of time: {self._words}"
