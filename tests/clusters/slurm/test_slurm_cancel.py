"""Cancelling on SLURM: when ``cancel()`` returns, the job is gone from the queue, whoever cancelled it and however."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.rundir import read_json
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.waiting import until

LONG = """
import os, time
from pathlib import Path
import mlnb
mlnb.log(pid=os.getpid())
try:
    time.sleep(300)
finally:
    time.sleep(2)  # as a checkpoint takes its time
    Path(os.environ["SAVED"]).write_text("saved")
"""


def running(run: Run) -> Run:
    """A run whose script has begun."""
    until(lambda: run.series().get("pid") is not None)
    return run


def test_a_pending_run_is_gone_when_cancel_returns(slurm: Slurm, start: Start):
    with configured(directives=["--hold"]):
        run = start()
    assert run.state == "pending"
    run.cancel()
    assert not slurm.jobs_of(run)
    assert run.state == "cancelled"
    assert run.reason == "stopped by you; it had not started"
    assert run.cancel() is run  # again: nothing to do, no error


def test_a_running_run_has_time_for_its_checkpoint_and_another_process_may_cancel(
    slurm: Slurm, start: Start, tmp_path: Path
):
    saved = tmp_path / "saved"
    run = running(start(LONG, env={"SAVED": str(saved)}))
    code = f"import mlnb; mlnb.runs[{run.id!r}].cancel()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert saved.read_text() == "saved"
    until(lambda: not slurm.jobs_of(run))  # the run has ended, its job does in a moment
    assert run.state == "cancelled"
    assert run.reason == "stopped by you"
    assert (run.result or {})["state"] == "cancelled"
    pid = int(run.series()["pid"].value[0])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_run_whose_job_was_cancelled_outside_of_mlnb_says_so(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(poll="1s"):
        saved = [tmp_path / "once", tmp_path / "requeued"]
        once, requeued = (start(LONG, env={"SAVED": str(file)}, requeue=file.name == "requeued") for file in saved)
        slurm.cancel(job(running(once)), job(running(requeued)))
        until(lambda: once.done and requeued.done)
    assert (once.state, requeued.state) == (
        "failed",
        "cancelled",
    )  # the one left its own account, the other was to go on
    for run, file in zip((once, requeued), saved, strict=True):
        assert "Stopped by the system, not through mlnb" in run.reason
        assert file.exists()
    assert f"job {job(requeued)}: was cancelled" in requeued.reason  # accounting, if there is one, says by whom


def test_a_waiting_run_whose_job_was_cancelled_outside_of_mlnb_says_so(slurm: Slurm, start: Start):
    with configured(directives=["--hold"], poll="1s"):
        run = start()
        assert run.state == "pending"
        slurm.cancel(job(run))
        until(lambda: run.done)
        assert run.state == "cancelled"
        assert run.reason.removesuffix(" by you") == f"job {job(run)}: was cancelled"  # accounting says by whom
        assert (read_json(run.directory.ended) or {})["state"] == "cancelled"
