"""Many runs submitted at once are one job array, and each is a run like any other, on a real Grid Engine."""

from __future__ import annotations

import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.rundir import read_json
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.clusters.gridengine.conftest import GridEngine, configured, job
from tests.waiting import until

pytestmark = pytest.mark.cluster

AGAIN = """
import os, mlnb
mlnb.log(restarts=int(os.environ["MLNB_RESTARTS"]))
if os.environ["MLNB_RESTARTS"] == "0":
    import time
    time.sleep(300)
"""


def test_many_runs_are_one_array_and_each_goes_its_own_way(gridengine: GridEngine):
    scripts = ["", "", "print('through')", "raise ValueError('no such data')", AGAIN]
    with configured(directives=["-h"]):
        place = target("sge")
        offer = place.offer(Resources(cpus=1, time=300), Placement("trial", {"requeue": True}))
        trials = [Submission(Task(script=script, seed=0), {}, f"trial-{index}") for index, script in enumerate(scripts)]
        waits, cancelled, through, fails, again = (
            found := [runs.add(Run(directory)) for directory in submit_many(trials, place, offer)]
        )
        jobs = [job(run) for run in found]
        array = jobs[0].partition(".")[0]
        gridengine.submitted.append(array)
        assert jobs == [f"{array}.{task}" for task in range(1, 6)]
        assert [run.state for run in found] == ["pending"] * 5
        assert waits.reason == f"Held by its owner or an administrator: qrls {array}.1 releases it"
        cancelled.cancel()
        assert [run.state for run in (waits, cancelled, through)] == ["pending", "cancelled", "pending"]
        for run in (through, fails, again):
            gridengine.command("qrls", job(run))
        assert through.wait(60).state == "succeeded", through.reason
        assert through.logs(stream="out") == "through\n"
        assert fails.wait(60).state == "failed"
        assert "no such data" in fails.reason
        until(lambda: again.series().get("restarts") is not None)
        gridengine.command("qmod", "-rj", f"{array}.5")
        assert again.wait(90).state == "succeeded", again.reason
        assert (again.attempts, through.attempts) == (2, 1)
        assert list(again.series()["restarts"].value) == [1]
        waits.directory.handle.unlink()  # as if the session had died before it could write it
        assert waits.state == "pending"
        assert (read_json(waits.directory.handle) or {})["job"] == f"{array}.1"
        assert waits.cancel().state == "cancelled"
        until(lambda: gridengine.qstat(array) is None)


def test_how_a_task_ended_is_on_record(gridengine: GridEngine):
    with configured(python="/no/such/python"):
        place = target("sge")
        offer = place.offer(Resources(cpus=1, time=300), Placement("trial", {"requeue": False}))
        found = [
            runs.add(Run(directory))
            for directory in submit_many([Submission(Task(script=""), {}, "trial")] * 2, place, offer)
        ]
        gridengine.submitted.append(job(found[0]).partition(".")[0])
        for run in found:
            until(lambda run=run: run.done)
            assert run.state == "failed"
            assert run.reason.startswith(f"job {job(run)}: ended with exit code 127, before the node program began")
