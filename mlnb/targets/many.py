"""Many jobs at once, for targets that have no better way than one request a job."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlnb.errors import MlnbError
from mlnb.rundir import RunDir, write_json
from mlnb.targets.base import SubmissionUnknown, Target


def submit_one_by_one(
    target: Target, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """See :meth:`mlnb.targets.base.Target.submit_many`. A job without an answer does not hold up the others."""
    handles: list[dict[str, Any]] = []
    unknown: SubmissionUnknown | None = None
    started: list[RunDir] = []
    try:
        for run, env in zip(runs, envs, strict=True):
            started.append(run)
            try:
                handles.append(target.submit(run, env))
            except SubmissionUnknown as error:
                unknown = error
            else:
                write_json(run.handle, handles[-1])
    except BaseException:
        for run in started:
            with contextlib.suppress(MlnbError):
                write_json(run.cancel, {"by": "mlnb, since not all of the runs could be started"})
                target.cancel(run)
        raise
    if unknown is not None:
        raise unknown
    return handles
