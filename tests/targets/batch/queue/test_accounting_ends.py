"""Jobs that the queue does not list: what accounting has to say of them. The SLURM here is played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.rundir import read_json
from mlnb.targets.batch.queue import states as batch_states
from tests.targets.batch.played import Played, aged, go, played


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr(batch_states, "ACCOUNTING_DELAY", 0.0)
    with played(tmp_path / "slurm") as commands:
        yield commands


def account(slurm: Played, state: str, began: float | None = None) -> None:
    """Have accounting call the job so."""
    start, now = "Unknown" if began is None else int(began), int(time.time())
    slurm.say("sacct", f"echo '12345|{state}|0:0|0:0|None|{start}|Unknown|{now}|hidden|None assigned'")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUSPENDED", "REQUEUED"])
def test_what_accounting_has_as_there_has_not_ended(slurm: Played, state: str):
    account(slurm, state)
    run = aged(go())
    assert run.state == "pending"
    assert run.reason == f"SLURM no longer has job 12345 in its queue, but accounting reports {state}"
    assert read_json(run.directory.ended) is None


@pytest.mark.parametrize(
    ("since", "limit", "state"), [(120, 60, "pending"), (1200, 60, "lost"), (1200, 900, "pending")]
)
def test_what_accounting_has_as_running_long_beyond_its_time_is_lost(slurm: Played, since: int, limit: int, state: str):
    account(slurm, "RUNNING", time.time() - since)
    assert aged(go(time=limit)).state == state


def test_what_was_cancelled_and_is_not_in_the_queue_has_ended(slurm: Played):
    account(slurm, "RUNNING")  # for ever, as where slurmdbd missed its end
    run = aged(go())
    run.cancel()
    assert run.state == "cancelled"


def test_the_job_of_another_cluster_of_a_federation_is_none_of_this_queues(slurm: Played):
    account(slurm, "PENDING")
    run = aged(go())
    slurm.queue(f"12345 REVOKED {run.id}")
    assert run.state == "pending"
