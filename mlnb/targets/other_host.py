"""Local runs on another host or in another container: their files are visible here, their processes are not."""

from __future__ import annotations

import contextlib
import time

from mlnb.rundir import RunDir, read_json_fresh, revalidate_directory
from mlnb.runinfo import RunInfo
from mlnb.targets.base import Status
from mlnb.units import format_time

SILENT = 300.0
"""Seconds without a heartbeat after which a process on another host counts as dead. Heartbeats come every two seconds;
the limit is much longer since clocks of machines differ and network file systems may show old content."""

_FRESH = 15.0
"""Seconds without a heartbeat after which the status says so."""

_POLL = 0.25


def status(run: RunDir, host: str) -> Status:
    """The status of a run whose node program is on ``host``, or is being started there, by its heartbeat."""
    revalidate_directory(run.path)  # the result may have been written on another host
    attempts = run.attempts()
    silent = time.time() - last_sign_of_life(run)
    if silent >= SILENT:
        return Status(False, reason=f"its node program on {host} has been silent for {format_time(silent)}")
    late = f"last heard of {format_time(silent)} ago, from {host}" if silent >= _FRESH else ""
    if attempts and attempts[-1].ranks():
        return Status(None, "running", late)
    return Status(None, "pending", late or f"was submitted on {host}, and waits or starts on that machine")


def last_sign_of_life(run: RunDir) -> float:
    """When the run was last active, in seconds since the epoch, by the clock of its host or of the file system."""
    signs = [RunInfo.read(run).submitted]
    for attempt in run.attempts()[-1:]:
        signs.append(float((read_json_fresh(attempt.heartbeat(0)) or {}).get("t", 0.0)))
        with contextlib.suppress(OSError):
            signs.append(attempt.path.stat().st_mtime)  # each heartbeat replaces a file in it
    return max(signs)


def wait_for_end(run: RunDir, patience: float) -> bool:
    """Wait up to ``patience`` seconds for the end of a cancelled run; returns whether it has ended.

    Its node program looks for ``cancel.json`` once a second.
    """
    end = time.monotonic() + patience
    while True:
        result = read_json_fresh(run.result)
        if result is not None and result.get("attempt", 1) >= len(run.attempts()):
            return True
        if time.time() - last_sign_of_life(run) >= SILENT:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_POLL)
