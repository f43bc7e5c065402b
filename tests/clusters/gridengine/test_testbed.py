"""The testbed itself does what it promises: what other tests find out about mlnb rests on it."""

from __future__ import annotations

import subprocess

import pytest

from tests.clusters.gridengine.conftest import GridEngine
from tests.testbeds.ordinary import OrdinaryUser
from tests.waiting import until

pytestmark = pytest.mark.cluster


def test_a_job_runs_and_is_on_record(gridengine: GridEngine):
    job = gridengine.qsub("echo $JOB_ID $NHOSTS $NSLOTS $RESTARTED; wc -l < $PE_HOSTFILE; exit 3", "-pe", "mlnb", "2")
    gridengine.wait_state(job, None)
    assert gridengine.output(job).split() == [job, "1", "2", "0", "1"]
    (entry,) = gridengine.qacct(job)
    assert (entry["exit_status"], entry["slots"], entry["failed"]) == ("3", "2", "0")


def test_qdel_ends_a_job(gridengine: GridEngine):
    job = gridengine.qsub("echo here; sleep 300")
    until(lambda: gridengine.output(job))
    assert gridengine.qstat(job) in ("r", "t")  # t: the host has it, and the master has not heard so yet
    gridengine.command("qdel", job)
    gridengine.wait_state(job, None)


@pytest.mark.slow
def test_what_left_the_jobs_session_is_ended_with_it(gridengine: GridEngine, ordinary_user: OrdinaryUser):
    """Not for root, whose processes Grid Engine spares."""
    script = "setsid sleep 300 & echo $!; wait\n"
    own = ("-terse", "-cwd", "-S", "/bin/sh", "-j", "y", "-o", "left")
    job = ordinary_user.run("qsub", *own, stdin=script).stdout.strip()
    file = ordinary_user.home / "left"
    pid = until(lambda: file.exists() and file.read_text().strip())
    gridengine.command("qdel", job)
    gridengine.wait_state(job, None)

    def gone() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
        return not state or state.startswith("Z")

    assert until(gone, 10)


@pytest.mark.slow
def test_gpus_are_counted(gridengine: GridEngine):
    first = gridengine.qsub("sleep 300", "-l", "gpu=2")
    gridengine.wait_state(first, "r")
    second = gridengine.qsub("true", "-l", "gpu=1", "-pe", "mlnb", "2")
    gridengine.wait_state(gridengine.qsub("true"), None)  # which came later, and found a slot
    assert gridengine.qstat(second) == "qw"
    gridengine.command("qdel", first)
    gridengine.wait_state(second, None)


def test_what_the_host_has_not_is_refused_if_one_asks(gridengine: GridEngine):
    for asked in (["-l", "gpu=3"], ["-pe", "mlnb", "5"]):
        done = subprocess.run(["qsub", "-w", "e", "-b", "y", *asked, "true"], capture_output=True, text=True)
        assert done.returncode != 0
        assert "no suitable queues" in done.stderr


@pytest.mark.slow
def test_a_job_is_rescheduled_on_request(gridengine: GridEngine):
    job = gridengine.qsub("echo restarted $RESTARTED; [ $RESTARTED = 1 ] || sleep 300", "-r", "y")
    until(lambda: "restarted 0" in gridengine.output(job))
    gridengine.command("qmod", "-rj", job)
    gridengine.wait_state(job, None)
    assert gridengine.output(job).split() == ["restarted", "0", "restarted", "1"]


def test_a_job_is_told_before_it_is_ended(gridengine: GridEngine):
    job = gridengine.qsub("trap 'echo told; exit 7' USR2; echo here; sleep 300 & wait", "-notify")
    until(lambda: "here" in gridengine.output(job))
    gridengine.command("qdel", job)
    gridengine.wait_state(job, None)
    assert "told" in gridengine.output(job)


@pytest.mark.slow
def test_time_has_a_limit(gridengine: GridEngine):
    job = gridengine.qsub("sleep 300", "-l", "h_rt=0:0:2")
    gridengine.wait_state(job, None)
    assert gridengine.qacct(job)[0]["exit_status"].startswith("137")


def test_an_ordinary_user_submits_and_runs_python(gridengine: GridEngine, ordinary_user: OrdinaryUser):
    script = f"id -un; {ordinary_user.python} -c 'import mlnb; print(mlnb.__file__)'\n"
    done = ordinary_user.run("qsub", "-sync", "y", "-cwd", "-S", "/bin/sh", "-j", "y", "-o", "out", stdin=script)
    assert done.returncode == 0, done.stderr
    name, module = ordinary_user.run("cat", "out").stdout.split()
    assert name == ordinary_user.name
    assert module.endswith("mlnb/__init__.py")
