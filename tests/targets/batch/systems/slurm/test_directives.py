"""Directives of several hands in one submission: the run's, a site's for mlnb, and a site's for dask-jobqueue."""

from __future__ import annotations

from collections.abc import Mapping

import dask
import pytest

from mlnb.targets.batch.jobqueue.adapter import load_class
from tests.targets.conftest import IN_CPU, IN_GPU, Site

A100 = {"type": "a100", "memory": "80GB", "directive": "--constraint=a100 --gres=gpu:{count}"}
MINE = [
    "comment",
    "ntasks-per-node",
    "nodes",
    "output",
    "error",
    "open-mode",
    "signal",
    "requeue",
    "J",
    "p",
    "t",
    "cpus-per-task",
    "mem",
]


def others(found: list[str]) -> list[str]:
    """What is said beside what each run's submission says."""
    return [each for each in found if each.lstrip("-").replace("=", " ").split()[0] not in MINE]


def jobqueue(**section: object) -> Mapping[str, object]:
    """``jobqueue.yaml`` of a site that uses Dask."""
    return {f"jobqueue.slurm.{key.replace('_', '-')}": value for key, value in section.items()}


@pytest.mark.parametrize(
    ("directives", "constraint"),
    [
        (["--constraint=ib"], "--constraint=a100&ib"),
        (["-C ib"], "--constraint=a100&ib"),
        (["--constraint 'ib|opa'"], "--constraint=a100&(ib|opa)"),
        (["-Cib --qos=normal"], "--constraint=a100&ib"),
        (["--constraint=[rack1|rack2]"], "--constraint=a100&[rack1|rack2]"),
        (["--constraint=a100"], "--constraint=a100"),
    ],
)
def test_a_site_s_constraint_holds_beside_the_one_that_chooses_the_gpu(
    site: Site, directives: list[str], constraint: str
):
    found, _ = site.job("--partition gpu --gpu-type a100", gpus=[A100], directives=directives)
    assert [each for each in found if each.startswith("--constraint")] == [constraint]
    assert "--gres=gpu:1" in found


def test_what_a_site_wants_of_each_job_does_not_take_away_its_gpus(site: Site):
    wants = ["--gres=lscratch:100", "--licenses=x:1", "-L y", "--qos=normal", "--qos=high"]
    found, _ = site.job("--partition gpu --gpus 2", directives=wants)
    assert others(found) == ["--gres=gpu:2,lscratch:100", "--licenses=x:1,y", "--qos=high"]


@pytest.mark.parametrize(
    ("directive", "instead"),
    [
        ("--time=1:00:00", "use the target's setting time:"),
        ("-p gpu", "use the target's setting partition:"),
        ("--mem-per-cpu=4G", "use the target's setting memory:"),
        ("--gres=gpu:1", "use the target's setting gpus:"),
        ("--nodes=2", "only mlnb sets it; leave it out"),
        ("--comment=x", "only mlnb sets it; leave it out"),
        ("qos=normal", "'qos=normal' is not an option of sbatch: options begin with '-'"),
        ("--qos='normal", "can't be parsed: No closing quotation"),
    ],
)
def test_what_would_make_the_plan_untrue_is_refused_with_where_to_say_it(site: Site, directive: str, instead: str):
    said = site.refusal(directives=[directive])
    assert said.startswith("directives: ")
    assert said.endswith(instead)
    gpu = {"type": "a100", "directive": f"--gres=gpu:{{count}} {directive}"}
    if "gres" not in directive and "qos" not in directive:
        assert site.refusal("--partition gpu", gpus=[gpu]).startswith("gpus: ")


def test_what_a_site_leaves_out_of_the_submission_is_its_own_to_say(site: Site):
    with dask.config.set(jobqueue(job_directives_skip=["--mem="])):
        found, plan = site.job(directives=["--mem-per-cpu=4G"])
    assert [each for each in found if each.startswith("--mem")] == ["--mem-per-cpu=4G"]
    assert "memory" not in plan
    assert "GB" not in plan


# what the site has for dask-jobqueue


def test_the_queue_account_and_directives_of_jobqueue_yaml_are_taken(site: Site):
    theirs = jobqueue(queue="gpu", account="physics", job_extra_directives=["--qos=normal", "--exclude=g2"])
    with dask.config.set(theirs):
        found, plan = site.job()
    assert {"-p gpu", "-A physics", "--qos=normal", "--exclude=g2", "--gres=gpu:1"} <= set(found)
    assert "partition gpu; 2 of its 2 nodes can take it" in plan


def test_what_the_line_or_the_target_says_goes_before_jobqueue_yaml(site: Site):
    theirs = jobqueue(queue="gpu", account="physics", job_extra_directives=["--qos=normal", "--constraint=ib"])
    with dask.config.set(theirs):
        found, _ = site.job("--partition cpu", account="biology", directives=["--qos=high"])
        assert {"-p cpu", "-A biology", "--qos=high", "--constraint=ib"} <= set(found)
        assert not {"-p gpu", "-A physics", "--qos=normal"} & set(found)
        assert "-p cpu" in site.job(partition="cpu")[0]


def test_what_was_written_for_dask_s_workers_is_not_what_a_run_has(site: Site):
    theirs = ["--mem=7G --cpus-per-task=24", "--time=9:00:00", "--output=dask.log", "--gres=gpu:4,lscratch:9", "--hold"]
    with dask.config.set(jobqueue(job_extra_directives=theirs, job_cpu=24, job_mem="7GB", walltime="09:00:00")):
        found, _ = site.job("--cpus 2 --memory 4GiB --time 1h")
    assert {"--cpus-per-task=2", "--mem=4096M", "-t 01:00:00", "--output=job.log"} <= set(found)
    assert others(found) == ["--gres=lscratch:9", "--hold"]


def test_another_section_is_taken_where_the_target_names_one(site: Site):
    site.has(partitions=f"{IN_CPU}\n{IN_GPU}")
    load_class("slurm:SLURMJob")  # gives Dask's configuration its defaults
    with dask.config.set({"jobqueue.mine": {**dask.config.get("jobqueue.slurm"), "queue": "gpu"}}):
        assert "-p gpu" in site.job(jobqueue="mine")[0]
        assert "-p cpu" in site.job()[0]
