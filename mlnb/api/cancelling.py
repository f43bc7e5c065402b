"""Cancels many runs at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from mlnb.api.read.state import observe
from mlnb.api.run import Run
from mlnb.api.submit.job_start import request_cancel
from mlnb.errors import MlnbError
from mlnb.rundir import FINAL
from mlnb.targets.base import Target
from mlnb.targets.many import call_at_once
from mlnb.targets.registry import target
from mlnb.workspace import Workspace


def cancel_runs(runs: Sequence[Run]) -> list[Run]:
    """Stop runs; each may write a checkpoint first. Returns, when all have ended, those that had not ended before.

    It takes as long as the slowest of them, and each target gets as few requests as it allows.

    Raises
    ------
    MlnbError
        the first problem: a target that could not be reached, or a run that did not end. The other runs are cancelled
        nevertheless.
    """
    observations = observe([run.observable for run in runs])
    by_target: dict[tuple[str, Workspace], list[Run]] = {}
    for run, observation in zip(runs, observations, strict=True):
        if observation.state not in FINAL:
            run.cancelled_here = True
            of_target = by_target.setdefault((run.target, run.workspace), [])
            of_target += [] if any(run.id == other.id for other in of_target) else [run]
    call_at_once(lambda key: _cancel(by_target[key], target(*key)), list(by_target))
    return [run for of_target in by_target.values() for run in of_target]


def _cancel(runs: Sequence[Run], of_target: Target) -> None:
    """Cancel runs of one target."""
    requested, problems = [], []
    for run in runs:
        try:
            request_cancel(run.directory, of_target)
            requested.append(run)
        except MlnbError as error:
            problems.append(error)
    gone = of_target.cancel_many([run.directory for run in requested])
    problems += [_did_not_end(run) for run, is_gone in zip(requested, gone, strict=True) if not is_gone]
    if problems:
        raise problems[0]


def _did_not_end(run: Run) -> MlnbError:
    return MlnbError(f"run {run.name} ({run.id}) did not end when it was cancelled: {run.reason or run.state}")
