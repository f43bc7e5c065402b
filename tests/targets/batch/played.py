"""SLURM's commands as shell scripts, for what the real ones can't be made to do. Their output is not real."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.rundir import read_json, write_json
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.scripts import write_command

_NODE = "NodeName=n1 CPUTot=8 Gres=(null) RealMemory=16000 AllocMem=0 State=IDLE Partitions={partitions}"
_PARTITION = "PartitionName={name} Default={default} MaxTime=1-00:00:00 DefaultTime=NONE Nodes=n1 State=UP"


class Played:
    """The commands, as scripts in a folder of PATH. Each records its arguments and the cluster that it is to query.

    Parameters
    ----------
    folder
        where they are put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.config("MaxArraySize            = 1001")
        self.node(partitions="gpu,high")
        self.queue()
        self.say("sbatch", "echo 12345")
        self.say("scancel", "")
        self.say("sacct", "echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1")

    def say(self, name: str, script: str) -> None:
        """Make the command ``name`` this shell script from now on."""
        write_command(self.folder, name, f'echo "$SLURM_CLUSTERS: $*" >>{self.folder}/{name}.calls', script)

    def node(self, *, partitions: str) -> None:
        """One node of 8 cores in these partitions, the first of which is the default."""
        first, *more = partitions.split(",")
        lines = [_PARTITION.format(name=first, default="YES"), *(_PARTITION.format(name=n, default="NO") for n in more)]
        (self.folder / "partitions").write_text("\n".join(lines))
        (self.folder / "nodes").write_text(_NODE.format(partitions=partitions))
        files = {"node": "nodes", "partition": "partitions", "config": "config"}
        cases = " ".join(f"*{word}*) cat {self.folder}/{file};;" for word, file in files.items())
        self.say("scontrol", f'case "$*" in {cases} esac')

    def config(self, *lines: str) -> None:
        """Lines of its configuration."""
        (self.folder / "config").write_text("".join(f"{line}\n" for line in lines))

    def queue(self, *jobs: str, more: str = "") -> None:
        """What squeue lists: ``JOB STATE RUN`` each."""
        now = int(time.time())
        rows = [
            f"{job}|{state}|None|{now}|{now}|1:00:00|1|gpu|0|0|n1|mlnb:{run}|"
            for job, state, run in (one.split() for one in jobs)
        ]
        (self.folder / "listed").write_text("".join(f"{row}\n" for row in rows))
        self.say("squeue", more or f"cat {self.folder}/listed")

    def calls(self, name: str) -> list[str]:
        """The calls of one command so far: cluster and words."""
        file = self.folder / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []


@contextmanager
def played(folder: Path) -> Iterator[Played]:
    """A SLURM that is played, in front of a real one."""
    with pytest.MonkeyPatch.context() as patch:
        commands = Played(folder)
        patch.setenv("PATH", f"{commands.folder}:{os.environ['PATH']}")
        for name in [name for name in os.environ if name.startswith(("SBATCH_", "SLURM_", "SQUEUE_"))]:
            patch.delenv(name)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))  # so that nobody shares what is known of its queue
        yield commands


def go(script: str = "", *, on: str = "slurm", placement: Placement = Placement("test"), **asked: object) -> Run:  # noqa: B008 - frozen
    """Submit a run."""
    env = asked.pop("env", {})
    place = target(on)
    offer = place.offer(Resources(**asked), placement)  # type: ignore[arg-type]
    return Run(submit(Task(script=script, seed=0), {}, place, offer, name=placement.name, env=env))  # type: ignore[arg-type]


def handle(run: Run) -> dict[str, object]:
    """How its job is found again."""
    return read_json(run.directory.handle) or {}


def aged(run: Run, seconds: float = 3600.0) -> Run:
    """The same run, submitted a while ago."""
    known = handle(run)
    write_json(run.directory.handle, {**known, "submitted": float(str(known["submitted"])) - seconds})
    return run
