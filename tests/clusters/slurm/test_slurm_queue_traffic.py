"""What mlnb asks of a scheduler that thousands of people share: one look at the queue, however many look at runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mlnb.api import Run, runs
from mlnb.rundir import write_json
from mlnb.server.poller import Poller, Snapshot
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Start, configured

pytestmark = pytest.mark.cluster

MANY = 40
WATCH = """
import collections, time
from mlnb.api import runs
for _ in range(4):
    seen = collections.Counter(run.observe().state for run in runs.observed())
    time.sleep(0.5)
print(dict(seen))
"""


def watched_by_all(interval: str) -> set[str]:
    """Have two kernels, the command line and a Jupyter server look at all runs; the states that they saw."""
    environment = {**os.environ, "DASK_MLNB__TARGETS__SLURM__POLL": interval}
    commands = [[sys.executable, "-c", WATCH]] * 2 + [[str(Path(sys.executable).with_name("mlnb")), "runs"]]
    others = [
        subprocess.Popen(each, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for each in commands
    ]
    with configured(poll=interval):
        states = served()
    said = [other.communicate(timeout=60)[0] for other in others]
    assert [other.returncode for other in others] == [0, 0, 0], said
    (state,) = states
    assert said[:2] == [f"{ {state: MANY} }\n"] * 2
    return states


def served() -> set[str]:
    """The states of all runs as a server's poller tells them, when it has told them all."""
    states: dict[str, str] = {}
    all_ = threading.Event()

    def tell(snapshot: Snapshot) -> None:
        states[snapshot.summary["id"]] = snapshot.summary["state"]
        if len(states) == MANY:
            all_.set()

    poller, there = Poller(), list(runs)
    for run in there:
        poller.subscribe(run, tell)
    assert all_.wait(30)
    for run in there:
        poller.unsubscribe(run.id, tell)
    return set(states.values())


def test_forty_runs_and_four_who_look_at_them(start: Start, commands: Commands):
    with configured(directives=["--hold"]):
        waiting: list[Run] = [start(name=f"run{number}") for number in range(MANY)]
    asked = commands.calls()
    assert Counter(asked) == {"sbatch": MANY, "scontrol": 2 * MANY}

    assert watched_by_all("1h") == {"pending"}
    assert Counter(commands.calls()) - Counter(asked) == {"squeue": 1}

    asked = commands.calls()
    for run in waiting:
        write_json(run.directory.attempt(1).heartbeat(0), {"t": time.time() + 10, "pid": 1})
    assert watched_by_all("1s") == {"running"}
    assert commands.calls() == asked
