#!/usr/bin/env python3
"""A real SLURM on this machine: three nodes of four CPUs and two GPUs that are not there.

``slurm.py up``, ``slurm.py down``, ``slurm.py status``; after ``up --accounting`` there is a slurmdbd too, and
``sacct`` works; it takes the place of one that is up without, if nobody uses that. Debian, root; everything is in
``/var/tmp/mlnb-slurm`` (or ``$MLNB_SLURM``) and listens on loopback only, if the machine's name means 127.0.0.1. Any
user of the machine can submit. Several can be up at once: a digit at the end of the folder's name
(``/var/tmp/mlnb-slurm-1``) moves the ports.

Partitions: ``gpu`` (the default), ``high`` (its jobs send those of ``gpu`` back to the queue), ``short`` (one node,
five minutes at most). node1 and node2 have ``gpu:a100:2``, node3 ``gpu:v100:2``; features ``a100``/``v100`` and
``gpu80g``/``gpu40g``/``gpu32g``. Where the machine has no version 1 control groups that root may write, memory is
enforced by sampling it, and devices are not constrained.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import slurm_config
from machine import fail, output, pid, until
from slurm_config import NODES

STATE = machine.state_folder("MLNB_SLURM", "/var/tmp/mlnb-slurm")
CONF = STATE / "slurm.conf"
#: where SLURM's commands look when nobody says SLURM_CONF
USUAL = Path("/etc/slurm/slurm.conf")
ENV = {"SLURM_CONF": str(CONF)}
PORTS = slurm_config.ports(STATE)

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch", "/usr/sbin/munged")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
ACCOUNTING_PROGRAMS = ("/usr/sbin/slurmdbd", "/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db")

CONTROL = (STATE / "run/slurmctld.pid", "slurmctld")
SLURMDS = tuple((STATE / f"run/slurmd-{name}.pid", "slurmd") for name in NODES)
DATABASE = (STATE / "run/slurmdbd.pid", "slurmdbd")
MARIADB = (STATE / "run/mariadb.pid", "mariadbd")
DAEMONS = (CONTROL, *SLURMDS, DATABASE, MARIADB)
MUNGE = Path("/run/munge")
#: there while the munged that runs is one that a testbed has started; all testbeds use the same
OUR_MUNGED = MUNGE / "of-mlnb-testbeds"
GOOD = ("idle", "mixed", "allocated", "completing", "planned", "reserved")


def good_nodes() -> set[str]:
    """The nodes that take jobs, or have some; ``*`` is a node that does not answer."""
    listed = output("sinfo", "-h", "-N", "-o", "%N %T", env=ENV) or ""
    states = dict(line.split() for line in listed.splitlines())
    return {name for name, state in states.items() if state in GOOD}


def is_up() -> bool:
    """Whether all daemons run, and nodes take jobs or have some."""
    return all(pid(*daemon) for daemon in (CONTROL, *SLURMDS)) and good_nodes() == set(NODES)


def has_accounting() -> bool:
    return pid(*DATABASE) is not None and pid(*MARIADB) is not None


def last_words(log: Path) -> str:
    """Why a daemon is not there, as it says itself."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    bad = [line for line in lines if "fatal" in line or "error" in line]
    return (bad or lines or [f"nothing in {log}"])[-1]


@contextmanager
def munge_locked() -> Iterator[None]:
    """One testbed at a time starts munged, or ends it."""
    MUNGE.mkdir(exist_ok=True)
    folder = os.open(MUNGE, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def start_munge() -> None:
    """Have a munged; one that runs already is used, and stays."""
    if output("munge", "-n") is not None:
        return
    shutil.chown(MUNGE, "munge", "munge")
    MUNGE.chmod(0o755)
    if not Path("/etc/munge/munge.key").exists():
        machine.run("runuser", "-u", "munge", "--", "/usr/sbin/mungekey", "--create")
    # --force: a socket or a lock of the boot before may be there
    machine.daemon("runuser", "-u", "munge", "--", "/usr/sbin/munged", "--force", env={})
    OUR_MUNGED.touch()
    if not until(lambda: output("munge", "-n") is not None, 10):
        fail("munged started, but no credential can be had from it")


def stop_munge() -> None:
    """End the munged that a testbed has started, unless some SLURM still runs."""
    if OUR_MUNGED.exists() and not machine.runs("slurmctld"):
        output("runuser", "-u", "munge", "--", "/usr/sbin/munged", "--stop")
        OUR_MUNGED.unlink()


def port_answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_accounting() -> None:
    """A database of our own, and slurmdbd; the machine's own MariaDB is not touched."""
    data, pipe = STATE / "db", STATE / "run/mariadb.sock"
    data.mkdir()
    shutil.chown(data, "mysql", "mysql")
    sql = STATE / "run/init.sql"
    sql.write_text(
        "CREATE DATABASE IF NOT EXISTS slurm;\n"
        "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
        "GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1';\n"
    )
    quick = ("--no-defaults", "--user=mysql", f"--datadir={data}", "--innodb-flush-log-at-trx-commit=0")
    machine.run("mariadb-install-db", *quick, "--skip-test-db")
    # it writes its pid file and its socket itself, as mysql
    (STATE / "run").chmod(0o777)
    log = (STATE / "log/mariadb.log").open("w")
    with log:
        subprocess.Popen(
            [
                "/usr/sbin/mariadbd",
                *quick,
                f"--socket={pipe}",
                f"--pid-file={MARIADB[0]}",
                "--bind-address=127.0.0.1",
                f"--port={PORTS['mariadb']}",
                "--skip-name-resolve",
                f"--init-file={sql}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    up = until(lambda: pid(*MARIADB) is not None and port_answers(PORTS["mariadb"]), 30)
    (STATE / "run").chmod(0o755)
    if not up:
        fail(f"MariaDB did not start: {last_words(STATE / 'log/mariadb.log')}")
    machine.daemon("/usr/sbin/slurmdbd", env=ENV)
    if not until(lambda: port_answers(PORTS["database"]), 30):
        fail(f"slurmdbd did not start: {last_words(STATE / 'log/slurmdbd.log')}")


def start() -> None:
    machine.daemon("/usr/sbin/slurmctld", env=ENV)
    for name in NODES:
        machine.daemon("/usr/sbin/slurmd", "-N", name, env=ENV)
    if not until(is_up, 30):
        fail(f"SLURM did not come up: {last_words(STATE / 'log/slurmctld.log')}")


def link_usual() -> None:
    """Let sbatch work in any shell, unless this machine has a SLURM of its own."""
    if USUAL.is_symlink() and (USUAL.readlink() == CONF or not USUAL.exists()):
        USUAL.unlink()
    if not USUAL.exists():
        USUAL.parent.mkdir(exist_ok=True)
        USUAL.symlink_to(CONF)


def up(args: argparse.Namespace) -> bool:
    begin = time.monotonic()
    there = is_up()
    if not there and (STATE / slurm_config.ACCOUNTED).exists() and any(pid(*daemon) for daemon in DAEMONS):
        args.accounting = True  # it is mended, as what it was
    if there and (has_accounting() or not args.accounting):
        say("already up")
        return False
    machine.install(PACKAGES, PROGRAMS)
    if args.accounting:
        machine.install(ACCOUNTING_PACKAGES, ACCOUNTING_PROGRAMS)
    if there:
        return replace(args)
    if (STATE / "boot").exists() and (STATE / "boot").read_text() == machine.boot():
        stop_daemons()  # what an earlier one left half up
    machine.empty(STATE)
    (STATE / "boot").write_text(machine.boot())
    slurm_config.write(STATE, args.accounting)
    with munge_locked():
        start_munge()
        if args.accounting:
            start_accounting()
        start()
    link_usual()
    say(f"up in {time.monotonic() - begin:.1f} s")
    return True


def replace(args: argparse.Namespace) -> bool:
    """Have one with accounting in place of the one that is up without. A person's stays a person's."""
    with machine.unused(STATE) as free:
        if not free or queue():
            fail("SLURM is up without accounting, and in use; try again when it isn't, or: slurm.py down")
        persons = not (STATE / machine.FOR_TESTS).exists()
        down()
        up(args)
    return not persons


def say(state: str) -> None:
    print(f"SLURM: {state}; nodes {', '.join(NODES)}; sacct {'works' if has_accounting() else 'has nothing'}")
    if not (USUAL.is_symlink() and USUAL.readlink() == CONF):
        print(f"  export SLURM_CONF={CONF}")
    print("  sbatch --gres=gpu:1 --wrap 'echo $CUDA_VISIBLE_DEVICES'   partitions gpu, high, short; sinfo -N -l")


def stop_daemons() -> None:
    machine.stop((CONTROL,), 10)  # first, so that it does not note that its nodes are going
    machine.stop(SLURMDS, 5)
    machine.stop((DATABASE,), 10)
    machine.stop((MARIADB,), 20)
    for group in Path("/sys/fs/cgroup").glob("*/slurm_node[1-3]"):
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as problem:  # a process that would not die is still in it; the next one up uses it again
                print(f"left: {folder}: {problem.strerror}")


def queue() -> list[str]:
    return (output("squeue", "-h", "-a", "-o", "%A", env=ENV) or "").split()


def down() -> None:
    begin = time.monotonic()
    # Jobs have processes of their own, which outlive slurmd.
    if pid(*CONTROL) and (jobs := queue()):
        output("scancel", *sorted(set(jobs)), env=ENV)
        until(lambda: not queue(), 15)
    stop_daemons()
    with munge_locked():
        stop_munge()
    if USUAL.is_symlink() and USUAL.readlink() == CONF:
        USUAL.unlink()
    print(f"SLURM: down in {time.monotonic() - begin:.1f} s; logs are in {STATE / 'log'}")


def status() -> bool:
    if is_up():
        say("up")
        return True
    running = [daemon[1] for daemon in DAEMONS if pid(*daemon)]
    print("SLURM: down" if not running else f"SLURM: not well; running: {', '.join(running)}")
    return False


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd, so that sacct works")


if __name__ == "__main__":
    machine.command_line("A real SLURM on this machine.", STATE, up, down, status, options)
