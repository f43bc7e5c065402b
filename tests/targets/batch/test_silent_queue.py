"""A queue that does not answer holds up nobody: what is known stays known, and for how long it is silent is said."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlnb.targets.batch import load_system, queue_listing
from mlnb.targets.batch.queue_listing import Listing
from mlnb.targets.batch.slurm.queue import QUEUE_COMMAND
from mlnb.workspace import Workspace
from tests.waiting import until

JOB = "|".join(["7", "PENDING", "Resources", "N/A", "0", "1:00", "1", "gpu", "0", "0", "", "mlnb:run"])
DOWN = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


class Squeue:
    """A ``squeue`` that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self._path, self._calls = folder / QUEUE_COMMAND[0], folder / "calls"
        folder.mkdir()

    def says(self, script: str) -> None:
        self._path.write_text(f"#!/bin/sh\necho >>{self._calls}\n{script}\n")
        self._path.chmod(0o755)

    @property
    def calls(self) -> int:
        return len(self._calls.read_text()) if self._calls.exists() else 0


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    """Answers with one job. What holds up the tests is short."""
    monkeypatch.setattr(queue_listing, "PATIENCE", 0.3)
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "runtime"))
    made = Squeue(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    made.says(f"echo '{JOB}'")
    return made


def look(interval: float = 0.1) -> Listing:
    return queue_listing.list_queue(load_system("slurm")({}, Workspace.of_process()), interval)


def timed(action: Callable[[], Listing]) -> tuple[Listing, float]:
    began = time.monotonic()
    return action(), time.monotonic() - began


def old() -> None:
    """Wait until what is known is too old to do."""
    time.sleep(0.15)


def test_a_look_that_takes_long_goes_on_behind_while_all_have_what_is_known(squeue: Squeue, tmp_path: Path):
    assert list(look().jobs) == ["7"]
    squeue.says(f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; echo '{JOB.replace('7|', '8|')}'")
    old()
    seen, took = timed(look)
    assert took < 2
    assert list(seen.jobs) == ["7"]
    assert seen.error.startswith("SLURM has not answered for 0.")
    until(lambda: "for 1." in look().error)
    assert max(timed(look)[1] for _ in range(5)) < 0.2, "who comes while one asks does not wait"
    assert squeue.calls == 2
    (tmp_path / "go").touch()
    assert until(lambda: None if (now := look()).error else now).jobs.keys() == {"8"}


def test_who_needs_the_answer_waits_for_it(squeue: Squeue):
    look()
    squeue.says(f"sleep 1; echo '{JOB.replace('7|', '8|')}'")
    behind = threading.Thread(target=lambda: look(0.0))
    behind.start()
    seen, took = timed(lambda: look(0.0))
    behind.join()
    assert (list(seen.jobs), seen.error) == (["8"], "")
    assert took > 0.9


def test_where_looks_take_long_as_a_rule_that_is_no_silence(squeue: Squeue):
    squeue.says(f"sleep 0.8; echo '{JOB}'")
    assert list(look().jobs) == ["7"], "the first is waited for"
    old()
    assert look().error == ""


def test_one_that_is_down_is_asked_less_and_less_often(squeue: Squeue):
    look()
    squeue.says(DOWN)
    asked = squeue.calls
    end = time.monotonic() + 3
    while time.monotonic() < end:
        seen = look()
        time.sleep(0.01)
    assert "Unable to contact slurm controller" in seen.error
    assert list(seen.jobs) == ["7"]
    assert 3 <= squeue.calls - asked <= 6, "not thirty times"
    squeue.says(f"echo '{JOB}'")
    queue_listing.expire(
        load_system("slurm")({}, Workspace.of_process())
    )  # as where something is submitted: then it is asked at once
    assert look().error == ""
    old()
    asked = squeue.calls
    look()
    assert squeue.calls == asked + 1, "as often as before"


def test_what_is_known_of_other_jobs_is_not_forgotten_with_a_change(squeue: Squeue):
    look()
    squeue.says(DOWN)
    queue_listing.expire(load_system("slurm")({}, Workspace.of_process()))
    seen = look()
    assert list(seen.jobs) == ["7"]
    assert seen.answered > 0
    assert "Unable to contact" in seen.error
