"""What is asked of SLURM for what a line says, on sites of many kinds: plan and submission, by what scontrol prints."""

from __future__ import annotations

import pytest

from tests.targets.conftest import IN_CPU, IN_GPU, NODES, PARTITIONS, Site


def about(found: list[str], *names: str) -> list[str]:
    return [each for each in found if each.startswith(names)]


SIZES = ("--cpus-per-task", "--mem")
GPUS = ("--gres", "--gpus", "--constraint")


# what a job may have of a node


def test_what_the_site_keeps_for_itself_is_not_asked_for(site: Site):
    """The cores that are kept for SLURM are not in CPUEfctv, the memory is in MemSpecLimit."""
    found, plan = site.job("--partition gpu --gpus 8")
    assert about(found, *SIZES) == ["--cpus-per-task=120", f"--mem={(499200 - 16384) // 1024 * 1024}M"]
    assert "2 of its 2 nodes can take it" in plan
    assert "are more cores than the 124 of a node" in site.refusal("--partition gpu --cpus 125")
    assert "have 506 GB at most" in site.refusal("--partition gpu --memory 510GB")


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        ("MaxCPUsPerNode=32", ["--cpus-per-task=4", "--mem=59392M"]),
        ("MaxMemPerNode=80000", ["--cpus-per-task=15", "--mem=9216M"]),
        ("MaxMemPerCPU=2000", ["--cpus-per-task=15", "--mem=30000M"]),
    ],
)
def test_what_a_partition_allows_of_a_node_is_shared_not_what_it_has(site: Site, limit: str, sizes: list[str]):
    site.has(partitions=f"{IN_CPU}\n{IN_GPU} {limit}")
    found, _ = site.job("--partition gpu --gpus 1")
    assert about(found, *SIZES) == sizes


def test_what_a_partition_does_not_allow_is_refused(site: Site):
    site.has(partitions=f"{IN_CPU}\n{IN_GPU} MaxCPUsPerNode=32 MaxMemPerNode=80000")
    assert "are more cores than the 32 of a node of partition gpu" in site.refusal("--partition gpu --cpus 33")
    assert "the nodes of partition gpu have 83.9 GB at most" in site.refusal("--partition gpu --memory 90GB")


def test_a_site_s_default_of_memory_is_no_more_than_a_node_has(site: Site):
    site.has(partitions=f"{IN_CPU} DefMemPerCPU=8000\n{IN_GPU}")
    found, _ = site.job("--cpus 64")
    assert about(found, *SIZES) == ["--cpus-per-task=64", "--mem=250000M"]


def test_a_site_s_defaults_for_each_gpu_are_taken(site: Site):
    site.has(partitions=f"{IN_CPU}\n{IN_GPU} JobDefaults=DefCpuPerGPU=8,DefMemPerGPU=40000")
    assert about(site.job("--partition gpu --gpus 2")[0], *SIZES) == ["--cpus-per-task=16", "--mem=80000M"]
    assert about(site.job("--partition gpu --gpus 0")[0], "--cpus-per-task") == ["--cpus-per-task=4"]


# what is not known is not refused


def test_where_memory_is_no_resource_nothing_is_said_of_it(site: Site):
    """RealMemory is 1 where a site that schedules cores alone leaves it out."""
    site.has(
        NODES.replace("RealMemory=499200 MemSpecLimit=16384", "RealMemory=1").replace(
            "RealMemory=250000", "RealMemory=1"
        )
    )
    found, plan = site.job("--cpus 2")
    assert about(found, *SIZES) == ["--cpus-per-task=2"]
    assert "memory" not in plan
    assert "2 of its 2 nodes can take it" in plan
    assert site.refusal("--memory 8GB") == (
        "--memory 8.0 GB: SLURM does not track memory in partition cpu; leave --memory out"
    )


def test_where_slurm_shows_no_nodes_what_fits_is_left_to_it(site: Site):
    site.has("No nodes in the system")
    found, plan = site.job("--cpus 4 --memory 8GB --gpus 2 --partition gpu")
    assert about(found, *SIZES, *GPUS) == ["--cpus-per-task=8", "--mem=7630M", "--gres=gpu:2"]
    assert "SLURM shows no nodes of it: whether they can take it was not checked" in plan
    found, _ = site.job()
    assert about(found, *SIZES, *GPUS) == ["--cpus-per-task=1"]  # the site's own default of memory is not known


# GPUs that nobody has asked for


@pytest.mark.parametrize(
    ("line", "settings", "gpus"),
    [
        ("", {}, []),
        ("--partition gpu", {}, ["--gres=gpu:1"]),
        ("--partition gpu --gpus 0", {}, []),
        ("", {"partition": "gpu"}, ["--gres=gpu:1"]),
        ("--partition cpu", {"partition": "gpu"}, []),
        ("--partition gpu", {"max-gpus": 0}, []),
        ("--partition gpu --nodes 2", {"max-gpus": 1}, []),
        ("--partition gpu --gpu-memory 40GB", {}, ["--gres=gpu:a100:1"]),
    ],
)
def test_a_run_has_one_gpu_where_its_own_partition_has_any(
    site: Site, line: str, settings: dict[str, object], gpus: list[str]
):
    found, _ = site.job(line, **settings)
    assert about(found, *GPUS) == gpus


def test_what_nobody_asked_for_is_within_the_limits_of_the_target(site: Site):
    found, _ = site.job(**{"max-time": "20m", "max-memory": "2GiB"})
    assert about(found, "-t", "--mem") == ["--mem=2048M", "-t 00:20:00"]


@pytest.mark.parametrize(
    ("line", "most", "nearest"),
    [
        ("--gpus 4", 2, "--gpus 2 is the most"),
        ("--nodes 2 --gpus 4", 4, "--gpus 2 is the most on each of 2"),
        ("--nodes 4 --gpus 1", 2, "--nodes 2 is the most"),
        ("--nodes 2 --gpus 1", 0, "--gpus 0 is the most on each of 2"),
    ],
)
def test_the_most_that_a_limit_allows_is_said_so_that_it_fits(site: Site, line: str, most: int, nearest: str):
    line = f"--partition gpu {line}"
    assert site.refusal(line, **{"max-gpus": most}).endswith(f"a run (max-gpus); {nearest}")


# what a site says of its GPUs

A100 = {"type": "a100", "memory": "80GB", "directive": "--gres=gpu:tesla-a100:{count} --qos=gpu"}


def test_where_a_site_says_how_gpus_are_asked_for_each_ask_goes_so(site: Site):
    site.has(NODES.replace("gpu:a100:8", "gpu:tesla-a100:8"))
    for line in ("--gpus 1", "", "--gpu-type a100"):
        found, plan = site.job(f"--partition gpu {line}", gpus=[A100])
        assert about(found, *GPUS, "--qos") == ["--gres=gpu:tesla-a100:1", "--qos=gpu"]
        assert "GPUs: a100 with 80GB on 2 nodes" in plan
    assert about(site.job("", gpus=[A100])[0], *GPUS, "--qos") == []
    assert site.refusal("--gpus 2", gpus=[A100]) == "--gpus 2: no node here has a100 with 80GB"
    assert site.refusal("--partition gpu --gpus 9", gpus=[A100]).endswith("try --gpus 8 (2 nodes have it)")


# several partitions


def test_of_several_partitions_those_that_can_take_it_are_asked(site: Site):
    short = "PartitionName=short Default=NO MaxTime=00:30:00 Nodes=c1 State=UP"
    site.has(partitions=f"{PARTITIONS}\n{short}")
    found, plan = site.job("--partition cpu,short --time 10m")
    assert about(found, "-p") == ["-p cpu,short"]
    assert "partition cpu; 2 of its 2 nodes can take it; or partition short: 1 of its 1 nodes can take it" in plan
    found, plan = site.job("--time 10m --gpus 1", partition="cpu,gpu")
    assert about(found, "-p", *GPUS) == ["-p gpu", "--gres=gpu:1"]
    assert "not in partition cpu: --gpus 1: the nodes of partition cpu have 0 at most" in plan
    assert "--time 1 h: partition short allows 30 min" in site.job("--partition cpu,short --time 1h")[1]
    assert site.refusal("--partition cpu,short --time 30h") == "--time 30 h: partition cpu allows 24 h at most"
    assert "Unknown partition hsort." in site.refusal("--partition cpu,hsort")
