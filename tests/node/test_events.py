"""A node program's events: each is one line of its file, whatever the disk does."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from mlnb.errors import StorageError
from mlnb.node.attempt.events import Events
from mlnb.rundir import RunDir, read_lines


def test_an_event_that_a_full_disk_cuts_off_does_not_spoil_the_next_one(tmp_path: Path):
    attempt = RunDir(tmp_path).attempt(1)
    events = Events(attempt, 0)
    events.add("started")
    path = attempt.events(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))  # the last bytes there are
        events.add("running", pid=os.getpid())
        events.add("sample", cpu=1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    events.add("rank-ended", rank=0)
    assert [event["event"] for event in read_lines(path)] == ["started", "rank-ended"]


def test_a_result_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its name, and with what was written before it: a power failure then undoes no end of a run."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").resolve().name))
    run = RunDir(tmp_path / "run")
    Events(run.attempt(1), 0).write_result(run.result, {"state": "succeeded"})
    assert len(synced) == 2
    assert synced[0].startswith(".result.json.")
    assert synced[1] == "run"


def test_the_result_of_a_run_that_was_removed_is_given_up(tmp_path: Path):
    """Soon, since its node program holds CPU cores and GPUs till then."""
    run = RunDir(tmp_path / "run")
    events = Events(run.attempt(1), 0)
    shutil.rmtree(run.path)
    with pytest.raises((OSError, StorageError)):
        events.write_result(run.result, {"state": "succeeded"}, timeout=3600)
