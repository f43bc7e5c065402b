"""Derives the state of a run from its result, its events and its target's report; never from missing events alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlnb.api.read.describe import append_reason, readable_reason, stopped_by
from mlnb.api.read.mirrored import refresh
from mlnb.api.read.progress import Events
from mlnb.errors import MlnbError
from mlnb.rundir import FINAL, RunDir, read_json, read_json_fresh, revalidate_directory
from mlnb.runinfo import RunInfo
from mlnb.targets.base import SUBMITTING, Status
from mlnb.targets.registry import target
from mlnb.workspace import Workspace

_SUBMISSION_TIMEOUT = 60.0
"""Seconds after which a run directory without a handle belongs to a submission that was interrupted."""

_RESULT_DELAY = 0.2
"""Seconds until a result that was written on another machine is visible here."""

_LATE = 300.0
"""Seconds without a sign of a run after which no result is awaited any more; clocks of machines may differ."""

_EVENTS_STALE = 10.0
"""Seconds without an event after which a target's report "pending" is believed: samples come every second."""


@dataclass(frozen=True)
class Observation:
    """A run's state (one of ``mlnb.rundir.STATES``), the reason as text, and the result if it has one."""

    state: str
    reason: str
    result: dict[str, Any] | None = None


class Observable(NamedTuple):
    """A run whose state can be observed; ``workspace`` is the one that it belongs to."""

    directory: RunDir
    events: Events
    workspace: Workspace


def observe(runs: Sequence[Observable]) -> list[Observation]:
    """The states of many runs, in their order; each target is polled once for all of its runs.

    A run that can't be read says so in its reason. It does not affect the others.
    """
    observations: dict[int, Observation] = {}
    to_poll: dict[tuple[str, Workspace], list[int]] = {}
    for index, run in enumerate(runs):
        try:
            final = _final(run.directory)
            name = "" if final else RunInfo.read(run.directory).target
        except Exception as error:  # noqa: BLE001 - whatever its files hold
            final = unreadable(error)
        if final is not None:
            observations[index] = final
        else:
            to_poll.setdefault((name, run.workspace), []).append(index)
    for (name, workspace), indices in to_poll.items():
        observations |= zip(indices, _poll_target(name, workspace, [runs[index] for index in indices]), strict=True)
    return [observations[index] for index in range(len(runs))]


def _poll_target(name: str, workspace: Workspace, runs: Sequence[Observable]) -> list[Observation]:
    directories = [run.directory for run in runs]
    mirrored = False
    try:
        polled = target(name, workspace)
        mirrored = polled.mirror is not None
        statuses = polled.poll(directories)
        ended = [run for run, status in zip(directories, statuses, strict=True) if status.alive is False]
        refresh(polled, ended, at_once=True)
        refresh(polled, directories)
    except MlnbError as error:  # the target can't be reached: the run directories still count
        statuses = [Status(None, "pending", str(error))] * len(runs)
    except Exception as error:  # noqa: BLE001 - one of them can't be read: each by itself
        if len(runs) == 1:
            return [unreadable(error)]
        return [_poll_target(name, workspace, [run])[0] for run in runs]
    _await_results([run for run, status in zip(runs, statuses, strict=True) if status.alive is False])
    return [_state_of(run, status, mirrored) for run, status in zip(runs, statuses, strict=True)]


def _state_of(run: Observable, status: Status, mirrored: bool) -> Observation:
    try:
        return (_final(run.directory) if mirrored else None) or derive_state(run.directory, run.events, status)
    except Exception as error:  # noqa: BLE001 - whatever its files hold
        return unreadable(error)


def unreadable(error: Exception) -> Observation:
    """What is known of a run that can't be read now: nothing that could be final."""
    return Observation("pending", f"it can't be read now ({type(error).__name__}: {error})")


def _await_results(runs: Sequence[Observable]) -> None:
    """Wait once for the results of runs whose jobs have just ended: they may have been written on other machines."""
    late = False
    for run in runs:
        attempts = run.directory.attempts()
        if run.events.awaited < len(attempts):
            run.events.awaited = len(attempts)
            with contextlib.suppress(Exception):  # what its files hold is the business of derive_state
                heard = max(run.events.read().last_heard or 0.0, attempts[-1].path.stat().st_mtime)
                late |= time.time() - heard < _LATE and _final(run.directory, read_json_fresh) is None
    if late:
        time.sleep(_RESULT_DELAY)


def _final(run: RunDir, read: Callable[[Path], dict[str, Any] | None] = read_json) -> Observation | None:
    result = read(run.result)
    if result is None or result.get("attempt", 1) < len(run.attempts()):
        return None  # a newer attempt is under way
    state = str(result.get("state"))
    if state not in FINAL:
        reason = f"it ended as {state!r}, which this version of mlnb does not know: a newer one has run it. Update mlnb"
        return Observation("failed", reason, result)
    return Observation(state, readable_reason(str(result.get("reason", ""))), result)


def derive_state(run: RunDir, events: Events, status: Status) -> Observation:
    """The state of a run without a result, from its events and its target's report on its job."""
    progress = events.read()
    if status.alive is False:
        return state_of_missing_job(run, events, status)
    if progress.interruption:  # its processes have ended: only the target knows what comes next
        if not status.reason:
            return Observation(status.state, f"to be queued again: {progress.interruption}")
        return Observation(status.state, append_reason(progress.interruption, status.reason))
    if status.state == "pending" and status.alive and time.time() - (progress.last_heard or 0.0) > _EVENTS_STALE:
        return Observation(status.state, status.reason)
    if progress.stop_reason:
        reason = readable_reason(progress.stop_reason)
        stopped = reason != progress.stop_reason
        return Observation("running", f"{reason}; stopping…" if stopped else f"stopping: {reason}")
    if progress.state == "running":
        return Observation("running", status.reason if status.state == "running" else "")
    if progress.state == "starting":
        return Observation("starting", "starting Python…")
    no_job = status.alive is None and status.reason in ("", SUBMITTING)
    if no_job and time.time() - _submitted(run) > _SUBMISSION_TIMEOUT and read_json_fresh(run.handle) is None:
        return Observation("lost", "its submission was interrupted: it never reached its target")
    return Observation(status.state, status.reason)


def _submitted(run: RunDir) -> float:
    """When the newest attempt was submitted."""
    attempts = run.attempts()
    created = [attempt.path.stat().st_mtime for attempt in attempts[-1:]]
    return max([RunInfo.read(run).submitted, *created])


def state_of_missing_job(run: RunDir, events: Events, status: Status) -> Observation:
    """The state of a run whose job has ended; its result may have been written a moment before, on another machine."""
    final = _final(run, read_json_fresh)
    if final is not None:
        return final
    for attempt in run.attempts()[-1:]:
        revalidate_directory(attempt.path)
    progress = events.read()
    heard = progress.last_heard
    last_heard = time.strftime(" (last heard of at %H:%M:%S)", time.localtime(heard)) if heard else ""
    stopping = f"; it was stopping: {readable_reason(progress.stop_reason)}" if progress.stop_reason else ""
    cancel = read_json_fresh(run.cancel)
    if cancel is not None:
        account = f"it wrote no result{last_heard}" if heard else "it had not started"
        return Observation("cancelled", f"{stopped_by(str(cancel.get('by', 'its owner')))}; {account}")
    if progress.interruption:
        more = "" if status.reason in progress.interruption else status.reason
        state = "cancelled" if status.state == "cancelled" else "failed"
        return Observation(state, append_reason(progress.interruption, more))
    if status.state in FINAL:
        return Observation(status.state, f"{status.reason}{last_heard}{stopping}")
    return Observation("lost", f"{status.reason or 'its job vanished'} without a result{last_heard}{stopping}")
