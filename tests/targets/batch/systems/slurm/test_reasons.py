"""SLURM's reasons and states in plain words."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.systems.slurm.ends import exit_of, explain_end, explain_state, phase
from mlnb.targets.batch.systems.slurm.limit_reasons import explain_limit
from mlnb.targets.batch.systems.slurm.nodes import Node, Partition
from mlnb.targets.batch.systems.slurm.reasons import explain_wait
from mlnb.task import Resources

WAITING = {"resources", "priority", "limit", "dependency", "impossible", "hold", "requeue", "begin", "down", "other"}
ENDED = {"completed", "failed", "memory", "time", "preempted", "node", "cancelled", "launch", "vanished"}

NODES = {
    "node1": Node("node1", gpus={"a100": 2}, gpus_used={"a100": 1}, state="MIXED", partitions=("gpu", "short")),
    "node2": Node("node2", gpus={"a100": 2}, gpus_used={"a100": 2}, state="ALLOCATED", partitions=("gpu",)),
    "node3": Node("node3", gpus={"h100": 8}, state="IDLE", partitions=("other",)),
    "node4": Node("node4", state="IDLE", partitions=("cpu",)),
}
PARTITIONS = {
    "gpu": Partition("gpu", True, 86400, state="UP"),
    "short": Partition("short", max_time=300, max_nodes=1, state="UP"),
    "cpu": Partition("cpu", state="UP"),
}

# the codes of job_reason_codes.html, put together from their parts as they are there
WHAT = {
    "Cpu": "cores",
    "GRES": "GPUs",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "nodes",
    "Billing": "billing units",
}
WHAT |= {"Energy": "energy", "License": "licences", "BB": "burst buffer", "Unknown": "resources"}


def here(code: str, resources: Resources | None, partition: str) -> tuple[str, str]:
    return explain_wait(code, resources, partition, nodes=NODES, partitions=PARTITIONS)


@pytest.mark.parametrize(
    ("code", "cause", "words"),
    [
        ("Resources", "resources", "Waiting for a GPU: all suitable ones are in use"),
        ("Priority", "priority", "Waiting for jobs of higher priority"),
        ("Priority", "priority", "a --time under 2 h may fit into a gap before them"),
        ("None", "other", "Waiting for SLURM to consider it"),
        ("Dependency", "dependency", "Waiting for another job"),
        ("DependencyNeverSatisfied", "impossible", "Will never start"),
        ("BeginTime", "begin", "before which it is not to start"),
        ("JobHeldUser", "hold", "scontrol release 12"),
        ("JobHeldAdmin", "hold", "by an administrator"),
        ("launch failed requeued held", "hold", "could not start it on its node"),
        ("launch_failed_requeued_held", "hold", "scontrol release 12"),
        ("BadConstraints", "impossible", "no node has all that it asks for"),
        ("PartitionTimeLimit", "impossible", "more time than partition gpu allows; try a shorter --time"),
        ("PartitionNodeLimit", "impossible", "more nodes than partition gpu allows"),
        ("PartitionDown", "down", "Partition gpu is down and starts no jobs; choose another --partition"),
        ("PartitionInactive", "down", "is inactive"),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-2]", "down", "don't answer: node[1-2]"),
        ("ReqNodeNotAvail,_UnavailableNodes:node1", "down", "don't answer: node1"),
        ("ReqNodeNotAvail, Reserved for maintenance", "down", "a shorter --time may fit before it"),
        ("(ReqNodeNotAvail, May be reserved for other job)", "resources", "reserved for other jobs"),
        ("ReqNodeNotAvail", "down", "down, drained, reserved or in use"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "down",
            "suitable nodes of partition gpu are down, drained or reserved for jobs of higher priority",
        ),
        ("NodeDown", "down", "a node that is down"),
        ("Licenses", "resources", "licence"),
        ("InvalidAccount", "impossible", "doesn't know the account"),
        ("InvalidQOS", "impossible", "doesn't know the QOS"),
        ("Reservation", "begin", "reservation to begin"),
        ("QOSMaxGRESPerUser", "limit", "Your running jobs use all the GPUs that the QOS allows at once"),
        ("QOSMaxGRESPerUser", "limit", "fewer --gpus may start sooner"),
        ("MaxGRESPerAccount", "limit", "Your group's running jobs use all the GPUs"),
        ("AssocGrpGRES", "limit", "Your group's running jobs use all the GPUs that your account allows at once"),
        ("AssocGrpCPUMinutesLimit", "limit", "budget of cores × time on your account is used up"),
        ("AssocGrpGRESRunMinutes", "limit", "a shorter --time may fit"),
        ("QOSMaxJobsPerUserLimit", "limit", "As many of your jobs are running as the QOS allows"),
        ("AssocMaxJobsLimit", "limit", "As many of your jobs are running as your account allows"),
        ("QOSMaxSubmitJobPerUserLimit", "limit", "running and waiting"),
        (
            "QOSMaxWallDurationPerJobLimit",
            "impossible",
            "more time than the QOS allows per job; try a shorter --time",
        ),
        ("QOSMaxMemoryMinutesPerJob", "impossible", "try less --memory or a shorter --time"),
        ("AssocMaxGRESPerNode", "impossible", "more GPUs than your account allows per node; try fewer --gpus"),
        ("QOSMinCpuNotSatisfied", "impossible", "the QOS wants a job to ask for more cores; try more --cpus"),
        ("QOSGrpWallLimit", "limit", "a shorter --time may start sooner"),
        ("AssociationJobLimit", "limit", "As many jobs run as your account allows"),
        ("SomethingNew", "other", "SLURM says SomethingNew"),
        ("QOSMaxSomethingPerUser", "other", "SLURM says QOSMaxSomethingPerUser"),
    ],
)
def test_reasons_in_words(code: str, cause: str, words: str):
    said = explain_wait(code, Resources(gpus=1, time=7200), "gpu", job="12")
    assert said.cause == cause
    assert words in said.reason
    assert said.cause in WAITING


def test_what_would_start_sooner_is_what_is_free():
    assert here("Resources", Resources(gpus=2), "gpu") == (
        "resources",
        "Waiting for GPUs: all suitable ones are in use; 1 GPU on one node is free now: try --gpus 1",
    )
    assert here("Resources", Resources(), "gpu")[1] == ("Waiting for cores and memory: all suitable nodes are in use")
    assert here("Priority", Resources(), "gpu")[1].endswith("a short --time, like 30m, may fit into a gap before them")


def test_what_will_never_start_is_said_whatever_the_code():
    for code in ("Resources", "Priority", "PartitionConfig", "ReqNodeNotAvail"):
        assert here(code, Resources(gpus=4), "gpu") == (
            "impossible",
            "Will never start: it asks for 4 GPUs per node, nodes of partition gpu have at most 2; try --gpus 2",
        )
    assert here("PartitionTimeLimit", Resources(time=7200), "short")[1] == (
        "Will never start: it asks for 2 h, partition short allows 5 min; try --time 5m"
    )
    assert here("PartitionNodeLimit", Resources(nodes=2), "short")[1] == (
        "Will never start: it asks for 2 nodes, partition short allows 1; try --nodes 1"
    )
    assert here("Resources", Resources(gpus=1), "cpu")[1].endswith("have none; choose another --partition")
    assert here("JobHeldUser", Resources(gpus=4), "gpu")[0] == "hold"


def test_the_node_limit_of_a_partition_that_would_allow_it_means_nodes_that_are_down():
    assert here("PartitionNodeLimit", Resources(nodes=2), "gpu") == (
        "down",
        "Waiting for nodes of partition gpu that are down or drained",
    )


def test_a_job_that_was_queued_again_waits_for_its_time():
    soon = time.time()
    said = explain_wait("BeginTime", start=soon, restarts=1)
    assert said.cause == "requeue"
    assert time.strftime("%H:%M", time.localtime(soon)) in said.reason
    far = explain_wait("BeginTime", start=0.0).reason
    assert "19" in far or "1970" in far


@pytest.mark.parametrize("whose", ["QOS", "Assoc"])
@pytest.mark.parametrize("what", WHAT)
def test_all_limits_of_a_resource_are_known(whose: str, what: str):
    for code in (
        f"{whose}Grp{what}",
        f"{whose}Grp{what}Limit",
        f"{whose}Grp{what}RunMinutes",
        f"{whose}Max{what}PerUser",
    ):
        cause, words = explain_limit(code) or ("", "")
        assert cause == "limit"
        assert WHAT[what] in words
    for code in (
        f"{whose}Max{what}PerJob",
        f"{whose}Max{what}PerNode",
        f"{whose}Max{what}MinutesPerJob",
        f"QOSMin{what}",
    ):
        cause, words = explain_limit(code) or ("", "")
        assert cause == "impossible"
        assert WHAT[what] in words


def test_what_is_no_limit():
    assert explain_limit("MaxMemPerLimit") is None
    assert explain_limit("GrpGRES") is None
    assert explain_limit("Resources") is None
    assert explain_limit("QOSMaxGRESPerUser", Resources()) == (
        "limit",
        "Your running jobs use all the devices that the QOS allows at once; it starts when enough of them end",
    )


@given(st.text(), st.integers(0, 9), st.integers(1, 9), st.sampled_from(["gpu", "short", "cpu", "none", None]))
def test_any_code_has_a_cause_and_words(code: str, gpus: int, nodes: int, partition: str | None):
    said = explain_wait(code, Resources(nodes=nodes, gpus=gpus), partition, nodes=NODES, partitions=PARTITIONS)
    assert said.cause in WAITING
    assert said.reason


@pytest.mark.parametrize(
    ("state", "exit_code", "signal", "reason", "cause", "words"),
    [
        ("COMPLETED", 0, 0, "None", "completed", "SLURM says that it completed"),
        ("FAILED", 3, 0, "NonZeroExitCode", "failed", "ended with exit code 3"),
        ("FAILED", 75, 0, "NonZeroExitCode", "failed", "asked to be queued again (exit code 75)"),
        ("FAILED", 0, 9, "JobLaunchFailure", "failed", "was ended by SIGKILL"),
        ("FAILED", 0, 53, "JobLaunchFailure", "launch", "the job script could not be started on node1"),
        ("FAILED", 0, 125, "", "memory", "more --memory"),
        ("FAILED", 1, 0, "BadConstraints", "launch", "no node has all that it asks for"),
        ("FAILED", 0, 0, "SystemFailure", "node", "file system"),
        ("FAILED", None, None, "Odd", "failed", "SLURM says FAILED, Odd"),
        ("OUT_OF_MEMORY", 0, 125, "OutOfMemory", "memory", "(8.0 GB on each node); more --memory"),
        ("TIMEOUT", 0, 15, "TimeLimit", "time", "reached its time limit (2 h)"),
        ("PREEMPTED", 0, 15, "", "preempted", "higher priority"),
        ("NODE_FAIL", 0, 0, "", "node", "its node node1 failed"),
        ("CANCELLED", 0, 15, "", "cancelled", "was cancelled"),
        ("BOOT_FAIL", 0, 0, "", "node", "did not start up"),
        ("DEADLINE", 0, 0, "", "time", "deadline"),
        ("REVOKED", 0, 0, "", "vanished", "another of the federation"),
        ("LAUNCH_FAILED", 0, 0, "", "launch", "could not start it"),
        ("ODD_END", 0, 0, "", "failed", "SLURM says ODD_END"),
    ],
)
def test_ends_in_words(state: str, exit_code: int, signal: int, reason: str, cause: str, words: str):
    asked = Resources(memory=8 * 10**9, time=7200)
    said = explain_end(state, exit_code, signal, reason=reason, resources=asked, nodes=("node1",))
    assert said.cause == cause
    assert said.cause in ENDED
    assert words in said.reason


def test_who_cancelled(monkeypatch: pytest.MonkeyPatch):
    assert explain_end("CANCELLED", by=os.getuid()).reason == "was cancelled by you"
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert explain_end("CANCELLED", by=0).reason == "was cancelled by root (an administrator)"
    assert explain_end("CANCELLED", by=1).reason == "was cancelled by daemon"
    assert explain_end("CANCELLED", by=3_999_999_999).reason == "was cancelled by user id 3999999999"
    assert explain_end("CANCELLED", by=10**18).reason == f"was cancelled by user id {10**18}"


def test_phases():
    assert [phase(state) for state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")] == (
        ["pending"] * 5
    )
    assert [phase(state) for state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT")] == ["running"] * 5
    assert [phase(state) for state in ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "REVOKED")] == ["ended"] * 5
    assert phase("NEW") == ""
    assert explain_state("REQUEUE_HOLD").cause == explain_state("SPECIAL_EXIT").cause == "hold"
    assert explain_state("REQUEUED").cause == "requeue"
    assert explain_state("RUNNING") == ("", "")
    assert explain_state("NEW") == ("other", "SLURM says NEW")


def test_exit_codes_as_squeue_scontrol_and_sacct_write_them():
    # pairs of squeue's exit_code and scontrol's ExitCode that 22.05.8 gave for the same jobs
    for squeue, scontrol, meant in (
        ("768", "3:0", (3, 0)),
        ("9", "0:9", (0, 9)),
        ("4021", "0:53", (0, 53)),
        ("253", "0:125", (0, 125)),
        ("32512", "127:0", (127, 0)),
        ("0", "0:0", (0, 0)),
    ):
        assert exit_of(squeue) == exit_of(scontrol) == meant
    assert exit_of("") == exit_of("N/A") == exit_of("1:") == (None, None)


@pytest.mark.parametrize("code", ["", "None"])
def test_a_job_that_slurm_has_not_looked_at_says_whether_it_was_queued_again(code: str):
    assert explain_wait(code) == ("other", "Waiting for SLURM to consider it")
    assert explain_wait(code, restarts=1) == ("requeue", "Queued again. Waiting for SLURM to consider it")
