"""Submits and cancels many runs: in groups, for targets with a request for many jobs; at once, or one by one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, write_json
from mlnb.targets.base import SubmissionUnknown, Target

Handles = list[dict[str, Any]]
T = TypeVar("T")
R = TypeVar("R")


def submit_one_by_one(target: Target, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> Handles:
    """See :meth:`mlnb.targets.base.Target.submit_many`. A job without an answer does not hold up the others."""
    groups = [[index] for index in range(len(runs))]
    return submit_in_groups(target, runs, groups, lambda group: [target.submit(runs[group[0]], envs[group[0]])])


def submit_in_groups(
    target: Target,
    runs: Sequence[RunDir],
    groups: Sequence[Sequence[int]],
    submit: Callable[[Sequence[int]], Handles],
) -> Handles:
    """See :meth:`mlnb.targets.base.Target.submit_many`. A group without an answer does not hold up the others.

    Parameters
    ----------
    groups
        indices of runs: each run is in one group.
    submit
        starts the jobs of one group by one request; raises as :meth:`mlnb.targets.base.Target.submit` does.
    """
    handles: dict[int, dict[str, Any]] = {}
    unknown: SubmissionUnknown | None = None
    started: list[RunDir] = []
    try:
        for group in groups:
            started += [runs[index] for index in group]
            try:
                handles |= dict(zip(group, submit(group), strict=True))
            except SubmissionUnknown as error:
                unknown = error
                continue
            except MlnbError:
                del started[-len(group) :]
                raise
            for index in group:
                write_json(runs[index].handle, handles[index])
    except BaseException:
        for run in started:
            with contextlib.suppress(MlnbError):
                write_json(run.cancel, {"by": "mlnb, since not all of the runs could be started"})
        with contextlib.suppress(MlnbError):
            target.cancel_many(started)
        raise
    if unknown is not None:
        raise unknown
    return [handles[index] for index in range(len(runs))]


def cancel_at_once(target: Target, runs: Sequence[RunDir]) -> list[bool]:
    """See :meth:`mlnb.targets.base.Target.cancel_many`, for targets whose ``cancel`` may be called in several threads.

    All are cancelled, also if the target can't cancel one of them. It takes as long as the slowest run.

    Raises
    ------
    MlnbError
        the first that the target raised.
    """
    return call_at_once(target.cancel, runs)


def call_at_once(call: Callable[[T], R], arguments: Sequence[T]) -> list[R]:
    """What ``call`` returns for each argument; all calls are made at the same time, and all come to their end.

    Raises
    ------
    Exception
        that of the first argument for which ``call`` raised one.
    """
    if len(arguments) == 1:
        return [call(arguments[0])]
    results: dict[int, R] = {}
    problems: dict[int, Exception] = {}

    def call_one(index: int) -> None:
        try:
            results[index] = call(arguments[index])
        except Exception as error:  # noqa: BLE001 - raised below
            problems[index] = error

    # not an executor, whose threads an interrupted process would wait for
    threads = [threading.Thread(target=call_one, args=(index,), daemon=True) for index in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[min(problems)]
    return [results[index] for index in range(len(arguments))]


def cancel_one_by_one(target: Target, runs: Sequence[RunDir]) -> list[bool]:
    """See :meth:`mlnb.targets.base.Target.cancel_many`. All are cancelled, also if the target can't cancel one of them.

    Raises
    ------
    MlnbError
        the first that the target raised.
    """
    gone: list[bool] = []
    problem: MlnbError | None = None
    for run in runs:
        try:
            gone.append(target.cancel(run))
        except MlnbError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return gone
