"""A run of another machine's session, or another container's: its files are seen from here, its processes are not."""

from __future__ import annotations

import contextlib
import time

from mlnb.rundir import RunDir, read_json, read_json_fresh, revalidate_directory
from mlnb.targets.base import Status
from mlnb.units import format_time

SILENT = 300.0
"""Seconds without a heartbeat, of which there is one every two, after which a process that can't be seen is taken for
gone. Clocks of machines differ, and network file systems show what is old; a run that is not taken for gone for so long
costs nothing."""

_FRESH = 15.0
_STEP = 0.25


def status(run: RunDir, host: str) -> Status:
    """What its heartbeat says of a run whose node program is on ``host``, or is being started there."""
    revalidate_directory(run.path)  # so that its result is seen as soon as it is there
    attempts = run.attempts()
    silent = time.time() - heard(run)
    if silent >= SILENT:
        return Status(False, reason=f"its node program on {host} fell silent {format_time(silent)} ago")
    late = f"last heard of {format_time(silent)} ago, from {host}" if silent >= _FRESH else ""
    if attempts and attempts[-1].ranks():
        return Status(None, "running", late)
    return Status(None, "pending", late or f"was submitted on {host}, and waits or starts there")


def heard(run: RunDir) -> float:
    """The last sign of life, in seconds since the epoch, by the clock of its machine or its file system."""
    signs = [float((read_json(run.run) or {}).get("submitted", 0.0))]
    for attempt in run.attempts()[-1:]:
        signs.append(float((read_json_fresh(attempt.heartbeat(0)) or {}).get("t", 0.0)))
        with contextlib.suppress(OSError):
            signs.append(attempt.path.stat().st_mtime)  # each heartbeat is a new file in it
    return max(signs)


def ended(run: RunDir, patience: float) -> bool:
    """Wait for the end of a run that has been cancelled: its node program looks for that once a second."""
    end = time.monotonic() + patience
    while True:
        result = read_json_fresh(run.result)
        if result is not None and result.get("attempt", 1) >= len(run.attempts()):
            return True
        if time.time() - heard(run) >= SILENT:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_STEP)
