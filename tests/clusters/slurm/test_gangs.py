"""Two nodes of SLURM as one run: they train as one, end as one, and go on as one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.rundir import read_lines
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.clusters.slurm.training import begin, numbers, plain, weights
from tests.waiting import until

FOREVER = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)\n"
SECOND_FAILS = "import os\nif os.environ['RANK'] == '1':\n    raise ValueError('mine')\n" + FOREVER


def host(run: Run, node: int, attempt: int = 1) -> str:
    """What SLURM calls a node of the run."""
    return str(started(run, node, attempt)["host"])


def started(run: Run, node: int, attempt: int = 1) -> dict:
    """How a node's program has begun."""
    return next(e for e in read_lines(run.directory.attempt(attempt).events(node)) if e["event"] == "started")


@pytest.mark.cluster
def test_a_cell_on_two_nodes_trains_as_two_ranks_on_one_and_as_one_process(slurm: Slurm, start: Start, tmp_path: Path):
    gang = begin(start, tmp_path, name="gang", batch=4, nodes=2)
    one = begin(start, tmp_path, name="one", batch=4, ranks=2)
    gang.hurry()
    one.hurry()
    for each in (gang, one):
        assert each.has_gone_on(attempts=1) == weights(gang.run)
    assert numbers(weights(gang.run)) == pytest.approx(numbers(plain()), abs=1e-6)

    assert host(gang.run, 0) != host(gang.run, 1)
    assert gang.run.progress.host == f"{host(gang.run, 0)} and 1 more"
    own = [
        [
            event["memory"]
            for event in read_lines(gang.run.directory.attempt(1).events(node))
            if event["event"] == "sample"
        ]
        for node in range(2)
    ]
    together = gang.run.all_series()["mlnb.memory"].value
    assert len(together)
    assert max(together) > max(max(own[0]), max(own[1])), "of both nodes, not of one"


def test_a_rank_that_fails_ends_all_nodes_and_is_the_reason(slurm: Slurm, start: Start):
    run = start(SECOND_FAILS, nodes=2).wait(60)
    result = run.result
    assert result is not None
    there = host(run, 1)
    assert run.reason.startswith(f"rank 1 on node 1 ({there})")
    assert run.reason.endswith("ValueError: mine")
    assert (result["error"]["node"], result["error"]["host"]) == (1, there)
    assert "raise ValueError('mine')" in result["error"]["text"]
    until(lambda: slurm.squeue(job(run)) is None)


def test_a_node_program_that_is_killed_ends_all_nodes_and_is_named(slurm: Slurm, start: Start):
    run = start(FOREVER, nodes=2)
    until(lambda: run.logs(0, "out") and run.logs(1, "out"))
    os.kill(started(run, 1)["pid"], signal.SIGKILL)
    assert run.wait(60).state == "failed"
    assert run.reason == f"node 1 was lost ({host(run, 1)})"
    until(lambda: slurm.squeue(job(run)) is None)


@pytest.mark.cluster
def test_a_preempted_gang_goes_on_where_it_was(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(directives=["--nodelist=node1"]):
        whole = begin(start, tmp_path, name="whole", batch=4, ranks=2)
        whole.hurry()
    with configured(poll="1s", directives=["--nodelist=node2,node3"]):
        gang = begin(start, tmp_path, name="gang", batch=4, nodes=2, requeue=True).under_way()
        slurm.sbatch("sleep 1", "--partition=high", "--nodelist=node3", "--exclusive", "--time=1")
        gang.told("pending", "Preempted by a job of higher priority. Queued again")
        gang.go_on(slurm)
        assert gang.has_gone_on() == whole.has_gone_on(attempts=1)


@pytest.mark.cluster
def test_a_gang_that_is_sent_back_to_the_queue_goes_on_where_it_was(slurm: Slurm, start: Start, tmp_path: Path):
    with configured(poll="1s"):
        gang = begin(start, tmp_path, name="gang", batch=4, nodes=2, requeue=True).under_way()
        slurm.command("scontrol", "requeue", gang.job)
        gang.told("pending", "Sent back to the queue", "Queued again")
        gang.go_on(slurm)
        assert numbers(gang.has_gone_on()) == pytest.approx(numbers(plain()), abs=1e-6)


@pytest.mark.cluster
def test_a_gang_out_of_time_goes_on_however_late_a_node_ends(slurm: Slurm, start: Start, tmp_path: Path):
    late = "import atexit, os, time\nif os.environ.get('SLURM_PROCID') == '1': atexit.register(time.sleep, 20)\n"
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "sitecustomize.py").write_text(late)
    setup = [f'export PYTHONPATH="$PYTHONPATH:{tmp_path}/late"']
    with configured(poll="1s", setup=setup):
        gang = begin(start, tmp_path, name="gang", batch=4, nodes=2, requeue=True, time=40)
        gang.under_way(1)
        gang.told("pending", "Out of time (", "Queued again")
        gang.go_on(slurm)
        assert numbers(gang.has_gone_on()) == pytest.approx(numbers(plain()), abs=1e-6)
    both = [read_lines(gang.run.directory.attempt(1).events(node)) for node in range(2)]
    warned = [next(event["t"] for event in events if event["event"] == "warned") for events in both]
    assert warned[0] == pytest.approx(warned[1], abs=1), "as one"
