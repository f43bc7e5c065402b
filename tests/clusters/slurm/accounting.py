"""SLURM's accounting, to be taken away and given back; and runs whose jobs end without an account of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlnb.api import Run, runs
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.clusters.slurm.conftest import Slurm, configured, job
from tests.testbeds import machine
from tests.waiting import until


class Accounting:
    """slurmdbd and its MariaDB. Nobody else may use SLURM while they are away."""

    def __init__(self, slurm: Slurm) -> None:
        self._conf = slurm.conf
        self._folder = slurm.conf.parent / "run"
        self._slurmdbd = self._folder / "slurmdbd.pid", "slurmdbd"
        self._mariadb = self._folder / "mariadb.pid", "mariadbd"
        self._server = Path(f"/proc/{machine.pid(*self._mariadb)}/cmdline").read_text().rstrip("\0").split("\0")

    def stop(self) -> None:
        """There is no slurmdbd: its port refuses."""
        machine.stop([self._slurmdbd], 10)

    def freeze(self) -> None:
        """slurmdbd takes connections, and says nothing."""
        self._signal(signal.SIGSTOP)

    def stop_database(self) -> None:
        """slurmdbd answers that it has no database."""
        machine.stop([self._mariadb], 20)

    def mend(self) -> None:
        """Have all of it work."""
        self._signal(signal.SIGCONT)
        if machine.pid(*self._mariadb) is None:
            self._folder.chmod(0o777)  # it writes its pid file and its socket as mysql
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.Popen(self._server, start_new_session=True, **quiet)  # type: ignore[call-overload]
            until(lambda: machine.pid(*self._mariadb) is not None and self.sql("SELECT 1") is not None, 30)
            self._folder.chmod(0o755)
        if machine.pid(*self._slurmdbd) is None:
            machine.daemon("/usr/sbin/slurmdbd", env={"SLURM_CONF": str(self._conf)})
        until(lambda: machine.output("sacct", "-n") is not None, 60)

    def sql(self, statement: str) -> str | None:
        """Have the database do something; ``None`` if it doesn't."""
        return machine.output("mariadb", f"--socket={self._folder}/mariadb.sock", "slurm", "-e", statement)

    def _signal(self, number: signal.Signals) -> None:
        pid = machine.pid(*self._slurmdbd)
        if pid is not None:
            os.kill(pid, number)


@contextmanager
def node_kept(slurm: Slurm, node: str) -> Iterator[None]:
    """Whatever is done to a node inside, it takes jobs afterwards."""
    try:
        yield
    finally:
        machine.output("scontrol", "update", f"nodename={node}", "state=resume")
        until(lambda: "DOWN" not in slurm.command("scontrol", "show", "node", node))


@contextmanager
def forgetful(slurm: Slurm) -> Iterator[None]:
    """SLURM forgets jobs seconds after their end, not five minutes."""
    text = slurm.conf.read_text()
    assert "MinJobAge=300" in text

    def forget_after(seconds: int) -> None:
        slurm.conf.write_text(text.replace("MinJobAge=300", f"MinJobAge={seconds}"))
        slurm.command("scontrol", "reconfigure")

    forget_after(2)
    try:
        yield
    finally:
        forget_after(300)


def forgotten(slurm: Slurm, *gone: Run) -> None:
    """Wait until these runs' jobs have left the queue."""
    jobs = {job(run) for run in gone}
    until(lambda: not jobs & set(slurm.command("squeue", "-h", "--array", "--states=all", "-o", "%i").split()), 90)


def program(folder: Path, name: str, script: str, **asked: object) -> Run:
    """Submit a run that has a piece of shell in place of the node program, so that SLURM alone knows how it ends.

    Parameters
    ----------
    asked
        resources, and ``partition``, ``requeue`` and ``directives``.
    """
    return programs(folder, name, script, 1, **asked)[0]


def programs(folder: Path, name: str, script: str, count: int, **asked: object) -> list[Run]:
    """Submit several of them at once; see :func:`program`."""
    file = folder / f"{name}.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    partition, requeue = asked.pop("partition", None), asked.pop("requeue", False)
    with configured(python=str(file), directives=asked.pop("directives", [])):
        place = target("slurm")
        wanted = Resources(**{"cpus": 1, "memory": 2**29, "time": 300, **asked})  # type: ignore[arg-type]
        offer = place.offer(wanted, Placement(name, {"partition": partition, "requeue": requeue}))
        found = submit_many([Submission(Task(script="", seed=0), {}, name)] * count, place, offer)
        return [runs.add(Run(directory)) for directory in found]
