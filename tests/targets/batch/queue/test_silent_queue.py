"""A queue that does not answer holds up nobody: what is known stays known, and for how long it is silent is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlnb.targets.batch import load_system
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue.listing import Listing
from mlnb.targets.batch.systems.slurm.queue import QUEUE_COMMAND
from mlnb.workspace import Workspace
from tests.scripts import write_command
from tests.waiting import until

JOB = "|".join(["7", "PENDING", "Resources", "N/A", "0", "1:00", "1", "gpu", "0", "0", "", "mlnb:run"])
DOWN = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


class Squeue:
    """A ``squeue`` that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._calls = folder, folder / "calls"
        folder.mkdir()

    def says(self, script: str) -> None:
        write_command(self._folder, QUEUE_COMMAND[0], f"echo >>{self._calls}", script)

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


def silent_for(listing: Listing) -> float:
    """Seconds for which SLURM has not answered; 0 if it has."""
    match = re.fullmatch(r"SLURM has not answered for ([\d.]+) s", listing.error)
    return float(match[1]) if match else 0.0


def old() -> None:
    """Wait until what is known is too old to do."""
    time.sleep(0.15)


def test_a_look_that_takes_long_goes_on_behind_while_all_have_what_is_known(squeue: Squeue, tmp_path: Path):
    assert list(look().jobs) == ["7"]
    squeue.says(f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; echo '{JOB.replace('7|', '8|')}'")
    old()
    listing = look()  # returns, though there is no answer yet
    assert list(listing.jobs) == ["7"]
    assert silent_for(listing) > 0
    until(lambda: silent_for(look()) > 1)
    assert squeue.calls == 2
    (tmp_path / "go").touch()
    assert until(lambda: None if (now := look()).error else now).jobs.keys() == {"8"}


def test_who_needs_the_answer_waits_for_it(squeue: Squeue, tmp_path: Path):
    look()
    squeue.says(f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; echo '{JOB.replace('7|', '8|')}'")
    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(look, 0.0) for _ in range(2)]
        until(lambda: silent_for(look()) > 0.5)
        assert not any(caller.done() for caller in callers)
        (tmp_path / "go").touch()
        for listing in (caller.result() for caller in callers):
            assert (list(listing.jobs), listing.error) == (["8"], "")


LOOK_AND_END = """
from mlnb.targets.batch import load_system
from mlnb.targets.batch.queue import listing
from mlnb.workspace import Workspace
listing.PATIENCE = 0.1
found = listing.list_queue(load_system("slurm")({}, Workspace.of_process()), 60.0)
print(*found.jobs, found.error)
"""


def test_a_process_that_ends_leaves_the_answer_to_the_next(squeue: Squeue):
    look()
    queue_listing.expire(load_system("slurm")({}, Workspace.of_process()))
    squeue.says(f"sleep 1; echo '{JOB.replace('7|', '8|')}'")
    done = subprocess.run([sys.executable, "-c", LOOK_AND_END], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("7 SLURM has not answered for"), done.stderr
    assert list(look(60.0).jobs) == ["8"]
    assert squeue.calls == 2


def test_where_looks_take_long_as_a_rule_that_is_no_silence(squeue: Squeue):
    squeue.says(f"sleep 3; echo '{JOB}'")
    assert list(look().jobs) == ["7"], "the first is waited for"
    old()
    squeue.says(f"sleep 0.5; echo '{JOB}'")  # more than the patience of the tests, less than twice what it took
    assert look().error == ""


def test_one_that_is_down_is_asked_less_and_less_often(squeue: Squeue):
    look()
    squeue.says(DOWN)
    asked = squeue.calls
    began, times = time.monotonic(), [0.0]
    while len(times) < 5:
        seen = look()
        if squeue.calls - asked >= len(times):
            times.append(time.monotonic() - began)
    assert "Unable to contact slurm controller" in seen.error
    assert list(seen.jobs) == ["7"]
    assert all(time >= least for time, least in zip(times[2:], (0.1, 0.5, 1.3), strict=True)), times
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
