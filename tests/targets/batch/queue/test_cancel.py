"""Cancelling ends when the run has, whatever the batch system does behind it. The SLURM here is played."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from mlnb.errors import MlnbError
from mlnb.rundir import write_json
from mlnb.targets.batch.queue import cancelling
from tests.targets.batch.played import Played, go, played


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr(cancelling, "TIMEOUT", 1.0)
    with dask.config.set({"mlnb": {"targets": {"slurm": {"poll": "1s"}}}}), played(tmp_path / "slurm") as commands:
        yield commands


def test_what_an_epilog_clears_away_is_not_waited_for(slurm: Played):
    run = go()
    slurm.queue(f"12345 COMPLETING {run.id}")
    run.cancel()  # which would fail after a second of waiting
    assert run.state == "cancelled"


def test_a_run_that_has_left_its_result_is_not_asked_for(slurm: Played):
    run = go()
    slurm.queue(f"12345 RUNNING {run.id}")
    asked = len(slurm.calls("squeue"))
    write_json(run.directory.cancel, {"by": "somebody", "t": time.time()})
    slurm.say("scancel", f'echo \'{{"state": "cancelled", "attempt": 1}}\' >{run.directory.result}')
    run.cancel()
    assert run.state == "cancelled"
    assert len(slurm.calls("squeue")) - asked <= 1  # whether it had ended before


def test_one_that_does_not_end_is_looked_at_no_more_often_than_the_target_says(slurm: Played):
    run = go()
    slurm.queue(f"12345 RUNNING {run.id}")
    began = time.monotonic()
    with pytest.raises(MlnbError, match="did not end when it was cancelled"):
        run.cancel()
    assert len(slurm.calls("squeue")) <= 2 + (time.monotonic() - began)
    assert slurm.calls("scancel") == [": 12345"]
