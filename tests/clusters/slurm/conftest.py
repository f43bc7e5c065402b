"""A real SLURM for the tests of this folder; they are skipped where there can't be one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import dask.config
import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import submit
from mlnb.rundir import read_json
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.clusters.slurm.commands import Commands
from tests.testbeds import slurm_operator
from tests.testbeds.ordinary import OrdinaryUser, ordinary
from tests.testbeds.sessions import own, slurms
from tests.testbeds.slurm_operator import Operator
from tests.waiting import until


@dataclass
class Slurm:
    """The cluster: partitions ``gpu`` (default), ``high`` and ``short``; see tests/testbeds/slurm.py."""

    conf: Path
    #: a folder that all users can read and write, and that all nodes see (they are one machine)
    shared: Path
    submitted: list[str] = field(default_factory=list)

    @property
    def cgroups(self) -> bool:
        """Whether memory is enforced as it is taken; else it is looked at each second, and a job ends as FAILED."""
        return "proctrack/cgroup" in self.conf.read_text()

    def command(self, *words: str, stdin: str = "") -> str:
        """What one of SLURM's commands prints; an assertion if it fails."""
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a shell script; the job's id. What it prints is ``output(job)``."""
        own = ("--parsable", f"--output={self.shared}/%j.out", "--open-mode=append", f"--chdir={self.shared}")
        job = self.command("sbatch", *own, *options, stdin=f"#!/bin/bash\n{script}\n").strip()
        self.submitted.append(job)
        return job

    def output(self, job: str) -> str:
        """What a job submitted here has printed so far."""
        file = self.shared / f"{job}.out"
        return file.read_text() if file.exists() else ""

    def show(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job, for five minutes after its end, too."""
        words = self.command("scontrol", "show", "job", "-o", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, job: str) -> str:
        return self.show(job)["JobState"]

    def squeue(self, job: str) -> str | None:
        """The state of a job in the queue; None when it has left it."""
        listed = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, timeout=60)
        return listed.stdout.strip() or None

    def jobs_of(self, run: Run) -> list[str]:
        """The jobs of a run that are in the queue, be it only for what is left to clear away."""
        listed = self.command("squeue", "-h", "-O", "JobID:|,Comment:|").splitlines()
        return [number for number, comment, _ in (line.split("|") for line in listed) if comment == f"mlnb:{run.id}"]

    def wait_state(self, job: str, *states: str, patience: float = 30) -> str:
        """Wait until the job is in one of these states, and say which."""

        end = time.monotonic() + patience
        while (state := self.state(job)) not in states:
            left = end - time.monotonic()
            assert left > 0, f"{job} is not {states} but {self.show(job)}; it printed {self.output(job)!r}"
            time.sleep(0.05)
        return state

    def start_now(self, job: str) -> None:
        """Let a requeued job run at once, not when its old credentials have expired; it may have begun by itself."""
        # not for a condition: a node starts nothing in the second in which it ended the same job, SLURM counts in those
        time.sleep(1.1)
        if self.state(job) == "PENDING":
            self.command("scontrol", "update", f"jobid={job}", "StartTime=now")

    def cancel(self, *jobs: str) -> None:
        """End these jobs, whatever they are; to have ended already is fine."""
        subprocess.run(["scancel", *jobs], capture_output=True, timeout=60)


@contextmanager
def slurm_up(states: Iterable[Path], *options: str) -> Iterator[Slurm]:
    """A SLURM that is up, with ``options``, for this session alone; SLURM_CONF is in the environment."""
    with own("slurm", states, *options) as state, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(state / "slurm.conf"))
        shared = Path(tempfile.mkdtemp(prefix="mlnb-shared-", dir="/tmp"))
        shared.chmod(0o1777)
        cluster = Slurm(state / "slurm.conf", shared)
        yield cluster
        if cluster.submitted:
            cluster.cancel(*cluster.submitted)
        shutil.rmtree(shared)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The SLURM of this session; each of xdist's workers has one."""
    with slurm_up(slurms()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Someone who is not root; made for this session."""
    with ordinary() as user:
        yield user


@pytest.fixture(scope="module")
def operator(slurm: Slurm) -> Operator:
    """Who does for a test what only root may do to SLURM."""
    return slurm_operator.here(slurm.conf.parent)


Start = Callable[..., Run]


@pytest.fixture
def start(slurm: Slurm) -> Iterator[Start]:
    """Submit a script to SLURM: small, and for five minutes at most. The test leaves nothing in the queue."""
    started: list[Run] = []

    def submitted(
        script: str = "",
        *,
        name: str = "test",
        partition: str | None = None,
        requeue: bool = False,
        env: Mapping[str, str] = MappingProxyType({}),
        **asked: object,
    ) -> Run:
        place = target("slurm")
        wanted = Resources(**{"cpus": 1, "memory": 2**30, "time": 300, **asked})  # type: ignore[arg-type]
        offer = place.offer(wanted, Placement(name, {"partition": partition, "requeue": requeue}))
        run = runs.add(Run(submit(Task(script=script, seed=0), {}, place, offer, name=name, env=env)))
        started.append(run)
        return run

    yield submitted
    # of those, too, whose handle a test has taken away
    left = [job for run in started for job in slurm.jobs_of(run)]
    if left:
        slurm.cancel(*left)
        until(lambda: not [job for run in started for job in slurm.jobs_of(run)])


@pytest.fixture
def commands(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """SLURM's commands, whose calls are counted."""
    found = Commands(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    yield found
    found.restore()  # for whoever looks what the test has left in the queue


def job(run: Run) -> str:
    """The id of a run's job."""
    return str((read_json(run.directory.handle) or {})["job"])


@contextmanager
def configured(**settings: object) -> Iterator[None]:
    """The target ``slurm`` with these settings."""
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    with dask.config.set({"mlnb": {"targets": {"slurm": named}}}):
        yield
