"""When an attempt has to stop, and when its ranks get a warning before that."""

from __future__ import annotations

import time

from mlnb.units import format_time

_RESULT_TIME = 2.0
"""Seconds to write the result in, before the batch system kills the node program."""


class Deadline:
    """The end of one attempt's time, counted from now.

    Parameters
    ----------
    limit
        seconds that it may run, or ``None``.
    job_end
        when the batch system ends the job, in seconds since the epoch, or ``None``.
    grace
        seconds that the ranks need to stop: the attempt ends so long before ``job_end``.
    """

    def __init__(self, limit: float | None, job_end: float | None, grace: float) -> None:
        self._start = time.monotonic()
        self._end = float("inf") if limit is None else self._start + limit
        if job_end is not None:
            self._end = min(self._end, self._start + job_end - time.time() - grace - _RESULT_TIME)

    @property
    def remaining(self) -> float:
        """Seconds until the ranks have to stop; negative afterwards, infinite without a limit."""
        return self._end - time.monotonic()

    @property
    def is_near(self) -> bool:
        """Whether it is time to warn the ranks: at most a minute, or a tenth of the time, remains."""
        return self._end < float("inf") and self.remaining <= min(60.0, 0.1 * (self._end - self._start))

    @property
    def has_passed(self) -> bool:
        """Whether the ranks have to stop now."""
        return self.remaining <= 0

    @property
    def reason(self) -> str:
        """Why the attempt stops, for people."""
        return f"Out of time ({format_time(max(0.0, self._end - self._start))})"
