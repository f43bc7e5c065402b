"""Submissions that something is wrong with, on a real SLURM."""

from __future__ import annotations

import pytest

from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured, job


def test_the_sessions_variables_for_sbatch_do_not_win_over_the_plan(
    slurm: Slurm, start: Start, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"PARTITION": "high", "TIMELIMIT": "2", "EXPORT": "NONE", "JOB_NAME": "mine"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    script = "import os; print(os.environ['ASKED'])"
    run = start(script, partition="short", env={"ASKED": "it's here"})
    shown = slurm.show(job(run))
    assert (shown["Partition"], shown["TimeLimit"], shown["JobName"]) == ("short", "00:05:00", "test")
    assert run.wait(60).state == "succeeded", run.reason
    assert run.logs(stream="out") == "it's here\n"
    usual = start(script, env={"ASKED": "it's here"})
    assert slurm.show(job(usual))["Partition"] == "high"


def test_a_job_that_slurm_took_while_its_answer_was_lost_is_the_runs(slurm: Slurm, start: Start, commands: Commands):
    real = (commands.folder / "sbatch").read_text().splitlines()[-1].removeprefix("exec ")
    lost = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
    commands.say("sbatch", f"{real} >/dev/null; {lost}")
    run = start()
    assert slurm.jobs_of(run) == [job(run)]
    assert run.wait(60).state == "succeeded", run.reason


def test_an_interrupt_while_slurm_takes_the_job_leaves_neither(slurm: Slurm, start: Start, commands: Commands):
    real = (commands.folder / "sbatch").read_text().splitlines()[-1].removeprefix("exec ")
    commands.say("sbatch", f"{real}; kill -INT $PPID; sleep 0.5")
    with configured(directives=["--hold"]), pytest.raises(KeyboardInterrupt):
        start(name="interrupted")
    left = slurm.command("squeue", "--me", "-h", "-O", "Name:|,SubmitTime:|", "-n", "interrupted").split()
    assert left == []


def test_what_the_sites_plugins_need_stays_with_the_commands(
    slurm: Slurm, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KRB5CCNAME", "FILE:/tmp/ticket")
    script = "import os; print(os.environ['ASKED'], 'KRB5CCNAME' in os.environ, 'SLURM_CONF' in os.environ)"
    with configured(command_variables=["KRB5CCNAME"]):
        run = start(script, env={"ASKED": "it's\nhere"})
        assert run.wait(60).state == "succeeded", run.reason
    assert run.logs(stream="out") == "it's\nhere False True\n"
