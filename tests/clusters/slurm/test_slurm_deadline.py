"""When a job ends is SLURM's to say: the node program knows it, whatever ``--time`` was and however late it began."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.targets.batch import load_system
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.waiting import until

pytestmark = pytest.mark.cluster

TELLS = """
import os, time
from pathlib import Path
print(float(os.environ["MLNB_DEADLINE"]), flush=True)
while not Path(os.environ["GO"]).exists():
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have SLURM's commands print times in seconds since the epoch, here."""
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%s")


def known(run: Run, attempt: int = 1) -> float:
    """The end of the job as the run's processes know it, in this attempt."""
    return until(lambda: float(run.logs(0, "out") or 0) if run.attempts == attempt else 0.0)


def true(slurm: Slurm, run: Run) -> float:
    """The end of the job as SLURM knows it."""
    return float(slurm.show(job(run))["EndTime"])


def shell(deadline: str, **env: str) -> str:
    """What a job's shell makes of :attr:`System.deadline`."""
    said = subprocess.run(["sh", "-c", f'printf %s "{deadline}"'], env=env, capture_output=True, text=True, check=True)
    return said.stdout.strip()


@pytest.mark.parametrize("asked", [{"time": 200}, {"partition": "short", "time": None}])
def test_a_run_knows_when_its_job_ends(slurm: Slurm, start: Start, tmp_path: Path, asked: dict[str, object]):
    run = start(TELLS, env={"GO": str(tmp_path / "go")}, **asked)
    assert known(run) == pytest.approx(true(slurm, run), abs=2)
    (tmp_path / "go").touch()
    assert run.wait(30).state == "succeeded"


def test_each_attempt_has_an_end_of_its_own(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(poll="1s", grace=1):
        run = start(TELLS, env={"GO": str(tmp_path / "go")}, requeue=True)
        first = known(run)
        slurm.command("scontrol", "requeue", job(run))
        slurm.wait_state(job(run), "PENDING")
        slurm.start_now(job(run))
        second = known(run, 2)
        assert second == pytest.approx(true(slurm, run), abs=2)
        assert second > first + 1
        (tmp_path / "go").touch()
        assert run.wait(30).state == "succeeded"


def test_a_run_whose_time_an_administrator_has_cut_ends_before_its_job(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(directives=["--hold"], poll="1s", grace=45):
        run = start(TELLS, env={"GO": str(tmp_path / "go")}, time=300)
        slurm.command("scontrol", "update", f"jobid={job(run)}", "TimeLimit=1")
        slurm.command("scontrol", "release", job(run))
        assert known(run) == pytest.approx(true(slurm, run), abs=2)
        assert run.wait(60).state == "failed"
        assert re.match(r"Out of time \(1\d(\.\d)? s\)", run.reason), run.reason


def test_what_slurm_tells_by_itself_is_not_asked_for(commands: Commands):
    ours = {"PATH": f"{commands.folder}:/usr/bin:/bin", "SLURM_JOB_ID": "1"}
    assert shell(load_system("slurm").deadline, SLURM_JOB_END_TIME="1795000000", **ours) == "1795000000"
    assert commands.calls() == []


@pytest.mark.parametrize("said", ["echo 2026-11-21T05:58:57", "echo N/A", "echo slurm_load_jobs error >&2; exit 1"])
def test_what_is_no_point_in_time_is_none(commands: Commands, said: str):
    commands.say("squeue", said)
    assert shell(load_system("slurm").deadline, PATH=f"{commands.folder}:/usr/bin:/bin", SLURM_JOB_ID="1") == ""
    assert commands.calls() == ["squeue"]


def test_a_controller_that_does_not_answer_holds_up_no_start(commands: Commands):
    commands.say("squeue", "exec sleep 3600")
    assert shell(load_system("slurm").deadline, PATH=f"{commands.folder}:/usr/bin:/bin", SLURM_JOB_ID="1") == ""
