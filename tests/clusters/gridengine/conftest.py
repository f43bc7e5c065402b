"""A real Grid Engine for the tests of this folder; they are skipped where there can't be one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dask.config
import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import submit
from mlnb.rundir import read_json
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.testbeds.ordinary import OrdinaryUser, ordinary
from tests.testbeds.sessions import held
from tests.waiting import until


@dataclass
class GridEngine:
    """One host, queue ``all.q``, ``-pe mlnb N``, ``-l gpu=N``; see tests/testbeds/gridengine.py."""

    #: a folder that all users can read and write
    shared: Path
    submitted: list[str] = field(default_factory=list)

    def command(self, *words: str, stdin: str = "") -> str:
        """What one of Grid Engine's commands prints; an assertion if it fails."""
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def qsub(self, script: str, *options: str) -> str:
        """Submit a shell script; the job's id. What it prints is ``output(job)``."""
        own = ("-terse", "-S", "/bin/bash", "-j", "y", "-o", f"{self.shared}/$JOB_ID.out", "-wd", str(self.shared))
        job = self.command("qsub", *own, *options, stdin=script + "\n").strip()
        self.submitted.append(job)
        return job

    def output(self, job: str) -> str:
        """What a job submitted here has printed so far."""
        file = self.shared / f"{job}.out"
        return file.read_text() if file.exists() else ""

    def qstat(self, job: str) -> str | None:
        """The letters of a job's state (``qw``, ``r``, ``Rr``, ...); None when it is over."""
        for line in self.command("qstat", "-u", "*").splitlines()[2:]:
            words = line.split()
            if words[0] == job:
                return words[4]
        return None

    def wait_state(self, job: str, *states: str | None, patience: float = 30) -> str | None:
        """Wait until the job's letters are one of these, and say which; None is its end."""
        end = time.monotonic() + patience
        while (state := self.qstat(job)) not in states:
            assert time.monotonic() < end, f"{job} is {state}, not {states}; it printed {self.output(job)!r}"
            time.sleep(0.05)
        return state

    def qacct(self, job: str) -> list[dict[str, str]]:
        """What is on record of a job that is over: one entry for each time it ran."""

        def recorded() -> str:
            done = subprocess.run(["qacct", "-j", job], capture_output=True, text=True, timeout=60)
            return done.stdout if done.returncode == 0 else ""

        entries: list[dict[str, str]] = []
        for line in until(recorded, 20).splitlines():
            if line.startswith("====="):
                entries.append({})
            else:
                name, _, value = line.partition(" ")
                entries[-1][name] = value.strip()
        return entries


@pytest.fixture(scope="session")
def gridengine() -> Iterator[GridEngine]:
    """A Grid Engine that is up; its commands need nothing in the environment."""
    state = Path(os.environ.get("MLNB_GRIDENGINE", "/var/tmp/mlnb-gridengine"))
    with held("gridengine", state):
        shared = Path(tempfile.mkdtemp(prefix="mlnb-shared-", dir="/tmp"))
        shared.chmod(0o1777)
        cluster = GridEngine(shared)
        yield cluster
        if cluster.submitted:
            # those that are over already are no matter
            subprocess.run(["qdel", "-f", *cluster.submitted], capture_output=True, timeout=60)
        shutil.rmtree(shared)


@pytest.fixture(scope="session")
def ordinary_user(gridengine: GridEngine) -> Iterator[OrdinaryUser]:
    """Someone who is not root; made for this session."""
    with ordinary() as user:
        yield user


Start = Callable[..., Run]


@contextmanager
def configured(**settings: object) -> Iterator[None]:
    """The target ``sge`` with these settings beyond what this Grid Engine needs said."""
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    place = {"parallel-environment": "mlnb", "gpu-resource": "gpu", "poll": 1, **named}
    with dask.config.set({"mlnb": {"targets": {"sge": place}}}):
        yield


@pytest.fixture
def start(gridengine: GridEngine) -> Iterator[Start]:
    """Submit a script to Grid Engine. The test leaves nothing in the queue."""
    jobs: list[str] = []

    def submitted(script: str = "", *, requeue: bool = False, partition: str | None = None, **asked: object) -> Run:
        place = target("sge")
        wanted = Resources(**asked)  # type: ignore[arg-type]
        offer = place.offer(wanted, Placement("test", {"partition": partition, "requeue": requeue}))
        run = runs.add(Run(submit(Task(script=script, seed=0), {}, place, offer, name="test", env={})))
        jobs.append(job(run))
        return run

    with configured():
        yield submitted
        if jobs:
            # those that are over already are no matter
            subprocess.run(["qdel", "-f", *jobs], capture_output=True, timeout=60)
            for each in jobs:
                gridengine.wait_state(each, None)


def job(run: Run) -> str:
    """The id of a run's job."""
    return str((read_json(run.directory.handle) or {})["job"])
