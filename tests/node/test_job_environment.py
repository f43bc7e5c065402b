"""What a batch system's environment says of a node program."""

from __future__ import annotations

import time

import pytest

from mlnb.errors import UsageError
from mlnb.node.attempt import job_environment
from mlnb.node.attempt.deadline import Deadline


@pytest.mark.parametrize(
    ("environ", "node"),
    [
        ({"SLURM_NODEID": "1", "SLURM_NNODES": "3"}, 1),
        ({"SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "3", "PMI_RANK": "2"}, 1),
        ({"SLURM_NODEID": "0", "SLURM_NNODES": "1", "PMI_RANK": "2"}, 2),  # one node a job: not SLURM's to tell
        ({"PMI_RANK": "2"}, 2),
        ({"OMPI_COMM_WORLD_RANK": "1"}, 1),
        ({"JOB_COMPLETION_INDEX": "1"}, 1),
    ],
)
def test_which_node_this_is(environ: dict[str, str], node: int):
    assert job_environment.node_index(None, 3, environ) == node


def test_the_command_line_has_priority_over_the_environment():
    assert job_environment.node_index(1, 3, {"PMI_RANK": "2"}) == 1


def test_the_only_node_has_index_0_whatever_the_environment_says():
    assert job_environment.node_index(None, 1, {"SLURM_NODEID": "5", "SLURM_NNODES": "8", "PMI_RANK": "3"}) == 0


@pytest.mark.parametrize(
    ("given", "environ", "message"),
    [
        (None, {}, "which of the run's 3 nodes this is"),
        (None, {"SLURM_NODEID": "1"}, "which of the run's 3 nodes this is"),
        (3, {}, "--node 3: the run has nodes 0 to 2"),
        (None, {"PMI_RANK": "3"}, "PMI_RANK 3: the run has nodes 0 to 2"),
        (None, {"PMI_RANK": "one"}, "PMI_RANK='one'"),
    ],
)
def test_an_index_out_of_range_is_refused(given: int | None, environ: dict[str, str], message: str):
    with pytest.raises(UsageError, match=message):
        job_environment.node_index(given, 3, environ)


@pytest.mark.parametrize(
    ("given", "environ", "restarts"),
    [
        (None, {}, 0),
        (2, {"MLNB_RESTARTS": "1"}, 2),
        (None, {"MLNB_RESTARTS": "1", "SLURM_RESTART_COUNT": "4"}, 1),
        (None, {"MLNB_RESTARTS": "", "SLURM_RESTART_COUNT": "4"}, 4),
    ],
)
def test_how_often_the_job_was_started_before(given: int | None, environ: dict[str, str], restarts: int):
    assert job_environment.restart_count(given, environ) == restarts


def test_an_invalid_deadline_is_refused():
    assert job_environment.job_end({}) is job_environment.job_end({"MLNB_DEADLINE": ""}) is None
    assert job_environment.job_end({"MLNB_DEADLINE": "1700000000"}) == 1.7e9
    with pytest.raises(UsageError, match="seconds since the epoch"):
        job_environment.job_end({"MLNB_DEADLINE": "tomorrow"})


def test_the_earlier_of_time_limit_and_job_end_counts_and_leaves_time_for_the_grace():
    now = time.time()
    assert Deadline(100.0, now + 1000, 10.0).remaining == pytest.approx(100, abs=1)
    assert Deadline(1000.0, now + 100, 10.0).remaining == pytest.approx(88, abs=1)
    assert Deadline(None, None, 10.0).remaining == float("inf")
    assert not Deadline(None, None, 10.0).is_near
    assert not Deadline(100.0, None, 10.0).is_near
    late = Deadline(None, now + 5, 10.0)
    assert late.is_near
    assert late.has_passed
    assert late.reason == "Out of time (0.0 s)"
