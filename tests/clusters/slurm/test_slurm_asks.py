"""What SLURM itself makes of what is asked: the job it holds is that of the plan."""

from __future__ import annotations

import pytest

from tests.clusters.slurm.conftest import Slurm, Start, configured, job

pytestmark = pytest.mark.cluster

MIB = 2**20


def test_a_whole_node_is_asked_for_to_the_last_mebibyte(slurm: Slurm, start: Start):
    with configured(directives=["--hold"]):
        shown = slurm.show(job(start(cpus=4, memory=6000 * MIB)))
    assert (shown["NumCPUs"], shown["MinMemoryNode"]) == ("4", "6000M")


def test_a_site_s_constraint_and_the_gpu_s_hold_both(slurm: Slurm, start: Start):
    with configured(directives=["--hold", "--constraint=a100|v100"]):
        shown = slurm.show(job(start(gpus=1, gpu_memory=80 * 10**9)))
    assert shown["Features"] == "(a100|v100)&gpu80g" or shown["Features"] == "gpu80g&(a100|v100)"
    assert shown["TresPerNode"] == "gres:gpu:a100:1"


def test_several_partitions_are_one_job(slurm: Slurm, start: Start):
    with configured(directives=["--hold"], partition="gpu,high"):
        run = start()
    assert slurm.show(job(run))["Partition"] == "gpu,high"
    assert run.state == "pending"


def test_the_gpu_that_nobody_asked_for_is_there(slurm: Slurm, start: Start):
    with configured(directives=["--hold"]):
        assert slurm.show(job(start(gpus=None)))["TresPerNode"] == "gres:gpu:1"
