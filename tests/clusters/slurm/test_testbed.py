"""The testbed itself does what it promises: what other tests find out about mlnb rests on it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.clusters.slurm.conftest import Slurm
from tests.testbeds.ordinary import OrdinaryUser
from tests.testbeds.slurm_operator import NODES
from tests.waiting import until


@pytest.fixture(scope="module")
def warned(slurm: Slurm) -> str:
    """A job that has two minutes, begun before the other tests, that is to be told when 110 s of them are left."""
    script = 'trap "date +%s; exit 3" USR1; date +%s; sleep 200 & wait'
    return slurm.sbatch(script, "--time=2", "--signal=B:USR1@110")


@pytest.fixture(autouse=True)
def early(warned: str) -> None:
    """Have it begin with the first test."""


def test_three_nodes_take_jobs(slurm: Slurm):
    listed = slurm.command("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %G %f")
    assert [line.split()[0] for line in listed.splitlines()] == list(NODES)
    assert "node3 gpu:v100:2 v100,gpu32g" in listed


@pytest.mark.parametrize(
    ("asked", "node", "visible"),
    [
        ("--gres=gpu:2", "node", "0,1"),
        ("--gres=gpu:v100:1", "node3", "0"),
        ("--gpus-per-node=v100:2", "node3", "0,1"),
        ("--gres=gpu:1 --constraint=gpu40g", "node2", "0"),
    ],
)
def test_a_job_has_the_gpus_it_asked_for(slurm: Slurm, asked: str, node: str, visible: str):
    job = slurm.sbatch("echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES", *asked.split())
    slurm.wait_state(job, "COMPLETED")
    there, numbers = slurm.output(job).split()
    assert there.startswith(node)
    assert numbers == visible


@pytest.mark.parametrize("asked", ["--gres=gpu:a100:3", "--gres=gpu:h100:1", "--mem=7000", "--constraint=gpu81g"])
def test_what_no_node_has_is_refused(slurm: Slurm, asked: str):
    done = subprocess.run(["sbatch", asked, "--wrap=true"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "error" in done.stderr


def test_a_job_that_takes_too_much_memory_is_ended(slurm: Slurm):
    eat = f"{sys.executable} -c \"import time; b = b'x' * (300 << 20); time.sleep(30)\""
    job = slurm.sbatch(eat, "--mem=100")
    ended = slurm.wait_state(job, "OUT_OF_MEMORY", "FAILED", "COMPLETED")
    assert ended == ("OUT_OF_MEMORY" if slurm.cgroups else "FAILED")


def test_one_task_a_node_is_started_on_two(slurm: Slurm):
    job = slurm.sbatch(
        "srun --kill-on-bad-exit=1 sh -c 'echo $SLURM_NODEID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'",
        *("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1"),
    )
    slurm.wait_state(job, "COMPLETED")
    first, second = sorted(line.split() for line in slurm.output(job).splitlines())
    assert (first[0], second[0]) == ("0", "1")
    assert first[1] != second[1]
    assert first[2] == second[2] == "0"


def test_a_job_is_requeued_on_request(slurm: Slurm):
    job = slurm.sbatch("echo restarts ${SLURM_RESTART_COUNT:-0}; test $SLURM_RESTART_COUNT || sleep 60", "--requeue")
    until(lambda: "restarts 0" in slurm.output(job))
    slurm.command("scontrol", "requeue", job)
    slurm.wait_state(job, "PENDING")
    slurm.start_now(job)
    slurm.wait_state(job, "COMPLETED")
    assert slurm.output(job).split("\n")[-2] == "restarts 1"


def test_high_sends_gpu_back_to_the_queue(slurm: Slurm):
    alone = ("--nodelist=node2", "--exclusive")
    low = slurm.sbatch("echo there; sleep 60", "--requeue", *alone)
    slurm.wait_state(low, "RUNNING")
    high = slurm.sbatch("sleep 1", "--partition=high", *alone)
    slurm.wait_state(high, "COMPLETED")
    assert slurm.show(low)["Restarts"] == "1"
    slurm.cancel(low)
    slurm.wait_state(low, "CANCELLED")
    assert until(lambda: slurm.squeue(low) is None)


def test_more_time_than_a_partition_gives_is_not_given(slurm: Slurm):
    job = slurm.sbatch("true", "--partition=short", "--time=6")
    assert until(lambda: slurm.show(job)["Reason"] == "PartitionTimeLimit")
    slurm.cancel(job)


def test_an_ordinary_user_submits_and_runs_python(slurm: Slurm, ordinary_user: OrdinaryUser):
    script = f"#!/bin/sh\nid -un; {ordinary_user.python} -c 'import mlnb; print(mlnb.__file__)'\n"
    done = ordinary_user.run("sbatch", "--parsable", "--wait", "--output=%j.out", stdin=script)
    assert done.returncode == 0, done.stderr
    name, module = ordinary_user.run("cat", f"{done.stdout.strip()}.out").stdout.split()
    assert name == ordinary_user.name
    assert module.endswith("mlnb/__init__.py")
    assert ordinary_user.snippet("import os; print(os.getuid(), os.getcwd())").split() == [
        str(ordinary_user.uid),
        str(ordinary_user.home),
    ]


def test_a_job_is_told_before_its_time_is_over(slurm: Slurm, warned: str):
    """The last, so that time has passed meanwhile. SLURM looks each 30 s; it may tell a job a minute early."""
    slurm.wait_state(warned, "FAILED", "TIMEOUT", patience=90)
    began, told = (int(line) for line in slurm.output(warned).splitlines() if line.isdigit())  # slurmstepd writes, too
    assert 0 <= told - began < 120
