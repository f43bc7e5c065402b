"""Jobs that end without a result of their own, and submitters that die: what is known is said, nothing is guessed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mlnb.api import Run, runs
from mlnb.rundir import RunDir, read_json, write_json
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.waiting import until

MIB = 2**20
SUBMIT = """
import os, signal
from mlnb.api.submit.submit import submit
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

place = target("slurm")
offer = place.offer(Resources(cpus=1, memory=2**30, time=300), Placement("orphan"))
run = submit(Task(script="print('through')"), {}, place, offer, name="orphan", env={})
os.kill(os.getpid(), signal.SIGKILL)
"""


def long_ago(run: Run) -> None:
    """Have this run be one that was submitted an hour ago: what the queue doesn't hold is not on its way there."""
    replace(run.info, submitted=time.time() - 3600).write(run.directory)
    handle = read_json(run.directory.handle)
    if handle is not None:
        write_json(run.directory.handle, {**handle, "submitted": time.time() - 3600})
    os.utime(run.directory.attempt(1).path, (0, 0))


def test_a_job_whose_python_is_not_there_has_failed_and_says_what_it_printed(start: Start):
    with configured(python="/no/such/python", poll="1s"):
        run = start()
        until(lambda: run.done)
        assert run.state == "failed"
        assert re.fullmatch(
            rf"job {job(run)}: ended with exit code 127, before the node program began; "
            r"it printed: .*/no/such/python: not found",
            run.reason,
        )


def test_a_run_that_takes_more_memory_than_its_job_has_says_so(start: Start):
    with configured(poll="1s"):
        run = start("b = b'x' * (2 << 30)\nprint('never')", memory=800 * MIB, requeue=True)
        until(lambda: run.done)
        assert run.state == "failed"
        # whichever is first: the job's control group, or mlnb's own look at what the ranks hold
        assert re.search(r"out of memory.*(--memory is 839 MB|--memory allows 839 MB)", run.reason)
        assert run.logs(0, "out") == ""


# jobs that SLURM has forgotten


@pytest.fixture
def forgotten(start: Start, commands: Commands) -> Run:
    """A run whose job is in no queue any more, on a cluster without accounting."""
    with configured(directives=["--hold"]):
        run = start()
    long_ago(run)
    commands.say("squeue", "")
    commands.say("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    return run


def test_a_job_that_slurm_has_forgotten_is_lost_and_never_asked_for_again(forgotten: Run, commands: Commands):
    with configured(poll="1s"):
        until(lambda: forgotten.done)
        assert (forgotten.state, forgotten.reason) == (
            "lost",
            f"job {job(forgotten)}: SLURM no longer knows it; it wrote no result",
        )
        asked = commands.calls()
        assert asked.count("sacct") == 1
        time.sleep(1.1)  # the next look at the queue would be due
        assert {Run(RunDir(forgotten.dir)).state for _ in range(20)} == {"lost"}
        assert commands.calls() == asked


def test_what_accounting_knows_of_a_forgotten_job_counts(forgotten: Run, commands: Commands):
    line = f"{job(forgotten)}|CANCELLED by {os.getuid()}|0:0|0:0|None|0|0|0|gpu|None assigned"
    commands.say("sacct", f"echo '{line}'")
    with configured(poll="1s"):
        until(lambda: forgotten.done)
    assert (forgotten.state, forgotten.reason) == ("cancelled", f"job {job(forgotten)}: was cancelled by you")


def test_a_job_is_not_lost_while_accounting_does_not_answer_nor_is_that_asked_in_a_row(
    forgotten: Run, commands: Commands
):
    commands.say("sacct", "echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 1")
    with configured(poll="1h"):
        assert [forgotten.state for _ in range(20)] == ["pending"] * 20
        assert "Connection refused" in forgotten.reason
    assert commands.calls().count("sacct") == 1


# submitters that die


def test_a_run_goes_on_when_the_process_that_submitted_it_was_killed(slurm: Slurm):
    done = subprocess.run([sys.executable, "-c", SUBMIT], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    run = runs["orphan"]
    assert run.wait(60).state == "succeeded", run.reason
    assert run.logs() == "through\n"
    until(lambda: not slurm.jobs_of(run))


def test_a_job_whose_submitter_died_before_it_could_note_it_is_found_and_can_be_cancelled(slurm: Slurm, start: Start):
    with configured(directives=["--hold"]):
        followed, cancelled = start(), start()
    jobs = job(followed), job(cancelled)
    for run in (followed, cancelled):
        run.directory.handle.unlink()
        long_ago(run)
    cancelled.cancel()
    assert (cancelled.state, slurm.jobs_of(cancelled)) == ("cancelled", [])
    assert followed.state == "pending"
    assert followed.reason.endswith(f"scontrol release {jobs[0]} releases it")
    assert (job(followed), job(cancelled)) == jobs
    slurm.command("scontrol", "release", jobs[0])
    assert followed.wait(60).state == "succeeded"


def test_a_run_whose_submitter_died_before_the_submission_is_lost_and_asked_for_once(start: Start, commands: Commands):
    with configured(directives=["--hold"]):
        run = start()
    run.directory.handle.unlink()
    commands.say("squeue", "")
    assert (run.state, run.reason) == ("pending", "being submitted")  # perhaps it is, at this moment
    long_ago(run)
    with configured(poll="1s"):
        until(lambda: run.done)
        assert (run.state, run.reason) == ("lost", "its submission was interrupted: SLURM has no job of it")
        asked = commands.calls()
        time.sleep(1.1)
        assert run.state == "lost"
        assert commands.calls() == asked
