"""What befalls a run on SLURM on its way: preemption, requeue, the end of its time. The same run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlnb.api import runs
from mlnb.api.submit.submit import resume
from mlnb.cli.run import read_arguments, run_script
from mlnb.targets.registry import target
from tests.clusters.slurm.conftest import Slurm, Start, configured
from tests.clusters.slurm.training import STEPS, begin, plain
from tests.waiting import until

PREEMPTED = "Preempted by a job of higher priority"
REQUEUED = "Sent back to the queue"


def on(node: str) -> dict[str, object]:
    """Settings of a target whose runs are all there."""
    return {"directives": [f"--nodelist={node}"], "poll": "1s"}


def make_room(slurm: Slurm) -> str:
    """A job of more priority wants node3."""
    return slurm.sbatch("sleep 1", "--partition=high", "--nodelist=node3", "--exclusive", "--time=1")


@pytest.mark.cluster
def test_a_run_that_is_sent_back_to_the_queue_goes_on_where_it_was(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(**on("node3")):
        preempted = begin(start, tmp_path, name="preempted", requeue=True)
    with configured(**on("node2")):
        requeued = begin(start, tmp_path, name="requeued", requeue=True)
    both = ((preempted, PREEMPTED), (requeued, REQUEUED))
    with configured(poll="1s"):
        for training, _ in both:
            training.under_way()
        make_room(slurm)
        slurm.command("scontrol", "requeue", requeued.job)
        for training, why in both:
            training.told("pending", why, "Queued again")
        for training, _ in both:
            training.start_again(slurm)
            training.told("running")
            training.hurry()
        for training, _ in both:
            assert training.has_gone_on() == plain()


@pytest.mark.cluster
def test_a_run_that_is_never_queued_again_ends_and_can_be_resumed(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(**on("node3")):
        training = begin(start, tmp_path, requeue=False).under_way()
        first = training.job
        make_room(slurm)
        run = training.run.wait(60)
        assert run.state == "failed"
        assert run.reason == f"{PREEMPTED}. Continue with --resume training"
        until(lambda: slurm.squeue(first) is None)
        assert slurm.show(first)["Restarts"] == "0"
        training.hurry()
        resume(run.directory, target("slurm"), {"HURRY": str(training.hurried), "BATCH": "8"})
        assert training.has_gone_on() == plain()
        assert training.job != first


@pytest.mark.cluster
def test_a_run_that_is_resumed_has_the_time_and_partition_that_the_line_says(
    slurm: Slurm, start: Start, tmp_path: Path
):
    with configured(poll="1s"):
        training = begin(start, tmp_path, requeue=False, time=20)
        assert training.run.wait(60).state == "failed"
        training.hurry()
        words = ["--resume", "training", "--time", "7m", "--partition", "high", "--detach"]
        words += ["--env", f"HURRY={training.hurried}", "--env", "BATCH=8"]
        assert run_script(runs=runs, **read_arguments(words, runs)) == 0
        asked = slurm.show(training.job)
        assert (asked["TimeLimit"], asked["Partition"], asked["MinMemoryNode"]) == ("00:07:00", "high", "1G")
        assert (asked["Requeue"], asked["JobName"]) == ("0", "training")
        assert training.has_gone_on() == plain()


@pytest.mark.cluster
def test_a_run_out_of_time_goes_on_until_it_is_done(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(poll="1s"):
        training = begin(start, tmp_path, requeue=True, time=20)
        waits = begin(start, tmp_path, name="no-more", requeue=False, time=20)
        never = start("import time\ntime.sleep(100)", name="never", requeue=True, time=20)
        training.told("pending", "Out of time (", "Checkpoint saved at step")
        training.go_on(slurm)
        for run, hint in (
            (waits.run, ". Continue with --resume no-more and a longer --time"),
            (never, ". No checkpoint was saved in this attempt (mlnb.epochs saves them)"),
        ):
            assert run.wait(60).state == "failed"
            assert run.reason.startswith("Out of time ("), run.reason
            assert run.reason.endswith(hint)
            assert run.attempts == 1
        assert 0 < len(waits.run.series()["loss"]) < STEPS
        assert training.has_gone_on() == plain()
