#!/usr/bin/env python3
"""A real Grid Engine on this machine: one host with a queue of four slots, and two GPUs that are only counted.

``gridengine.py up``, ``gridengine.py down``, ``gridengine.py status``. Debian, root; everything is in
``/var/tmp/mlnb-gridengine`` (or ``$MLNB_GRIDENGINE``), to which Debian's cell ``default`` is a link as long as it is
up, so that ``qsub`` works in any shell of any user. Its daemons listen on all addresses, having no option for fewer,
and serve this host alone.

There is the queue ``all.q``, the parallel environment ``mlnb`` (``-pe mlnb N``: all slots on one host), the consumable
``gpu`` (``-l gpu=1``, for the whole job), of which the host has 2, and ``gpu_slot``, the same for each slot, since
sites have the one or the other. The queue's shell is ``/bin/sh`` and its ``shell_start_mode`` is the default,
``posix_compliant``: a script's ``#!`` line is not heeded, only ``-S``; and it is a login shell, which reads profiles.

What a job finds in its environment: ``JOB_ID``, ``JOB_NAME``, ``NHOSTS``, ``NSLOTS``, ``NQUEUES``, ``QUEUE``,
``HOSTNAME``, ``TMP`` (its own, removed at its end; no ``TMPDIR``), ``SGE_TASK_ID`` (``undefined`` unless an array),
``SGE_ROOT``, ``SGE_CELL``, ``SGE_JOB_SPOOL_DIR``, ``RESTARTED`` (0, or 1 when it was run before), ``PE`` and
``PE_HOSTFILE`` (only with ``-pe``; a line for each host: name, slots, queue, processors), ``SGE_O_WORKDIR`` and other
``SGE_O_...`` of the submission, and what the execution daemon itself was started with. No variable says which GPUs it
was given: a consumable is a number.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import time
from pathlib import Path

import machine
from machine import fail, output, pid, until

STATE = machine.state_folder("MLNB_GRIDENGINE", "/var/tmp/mlnb-gridengine")
CELL = STATE / "default"
#: Debian's commands look here; its package leaves a cell without a master there
ROOT = Path("/var/lib/gridengine")
USUAL, ASIDE = ROOT / "default", ROOT / "default.debian"
PROGRAMS_OF = Path("/usr/lib/gridengine")
ENV = {"SGE_ROOT": str(ROOT), "SGE_CELL": "default"}

# msmtp-mta: the packages want mail to be sent, and this has no daemon
PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client", "msmtp-mta")
PROGRAMS = ("/usr/sbin/sge_qmaster", "/usr/sbin/sge_execd", "/usr/bin/qsub")

HOST = socket.gethostname()
MASTER = (STATE / "spool/qmaster/qmaster.pid", "sge_qmaster")
SLOTS, GPUS = 4, 2

BOOTSTRAP = f"""\
admin_user              none
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {STATE}/spool/db
binary_path             /usr/sbin
qmaster_spool_dir       {STATE}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""

# Debian's configuration, but for: root and system users may submit; a job's end is on record at once; all processes
# of a job go with it, even those that left its session (but not root's: Grid Engine spares those).
CONFIGURATION = {
    "execd_spool_dir": f"{STATE}/spool/execd",
    "mailer": "/bin/true",
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:01",
    "execd_params": "ENABLE_ADDGRP_KILL=true",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 "
    "joblog=false sharelog=00:00:00",
}
# It decides within a second, not within fifteen.
SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}

PARALLEL = """\
pe_name            mlnb
slots              999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $pe_slots
control_slaves     FALSE
job_is_first_task  TRUE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
"""
GROUP = f"group_name @allhosts\nhostlist {HOST}\n"
EXEC_HOST = f"""\
hostname              {HOST}
load_scaling          NONE
complex_values        gpu={GPUS},gpu_slot={GPUS}
user_lists            NONE
xuser_lists           NONE
projects              NONE
xprojects             NONE
usage_scaling         NONE
report_variables      NONE
"""
# No load of the machine closes the queue, and jobs submitted with -notify are told 5 seconds before, not 60.
QUEUE = {
    "qname": "all.q",
    "hostlist": "@allhosts",
    "slots": str(SLOTS),
    "pe_list": "mlnb",
    "load_thresholds": "NONE",
    "notify": "00:00:05",
}


def changed(text: str, values: dict[str, str]) -> str:
    """A configuration as Grid Engine prints it, with other values for some names."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        name = line.split(None, 1)[0] if line.strip() else ""
        lines.append(f"{name} {values[name]}" if name in values else line)
    return "\n".join(lines) + "\n"


def execd() -> tuple[Path, str]:
    """The execution daemon's pid file, in a folder with the name that the host's address has, be it localhost."""
    found = [*(STATE / "spool/execd").glob("*/execd.pid"), STATE / "spool/execd/execd.pid"]
    return found[0], "sge_execd"


def queue_state() -> str:
    """The state of the queue on this host as qstat says it: empty if all is well, ``au`` if nothing is heard of it."""
    listed = (output("qstat", "-f", "-q", "all.q", env=ENV) or "").splitlines()
    for line in listed:
        if line.startswith("all.q@"):
            words = line.split()
            return words[5] if len(words) > 5 else ""
    return "unknown"


def is_up() -> bool:
    return pid(*MASTER) is not None and pid(*execd()) is not None and queue_state() == ""


def set_up(what: str, text: str) -> None:
    """Hand a file to qconf, which takes nothing else without an editor."""
    file = STATE / "setup"
    file.write_text(text)
    machine.run("qconf", what, file, env=ENV)


def take_cell() -> None:
    """Put our cell where Debian's commands look, unless this machine has a Grid Engine of its own."""
    if USUAL.is_symlink():
        USUAL.unlink()
    elif (USUAL / "common/act_qmaster").exists():
        fail(f"this machine has a Grid Engine of its own: {USUAL}", machine.CANNOT)
    elif USUAL.exists():
        USUAL.rename(ASIDE)
    USUAL.symlink_to(CELL)


def return_cell() -> None:
    if USUAL.is_symlink() and USUAL.readlink() == CELL:
        USUAL.unlink()
        if ASIDE.exists():
            ASIDE.rename(USUAL)


def write_cell() -> None:
    """The files of a cell, and its database."""
    common = CELL / "common"
    for folder in (common, STATE / "spool/qmaster/job_scripts", STATE / "spool/execd", STATE / "spool/db"):
        folder.mkdir(parents=True)
    (common / "bootstrap").write_text(BOOTSTRAP)
    (common / "act_qmaster").write_text(f"{HOST}\n")
    # another testbed's job ids never come again, so that one which someone kept means no other job
    (STATE / "spool/qmaster/jobseqnum").write_text(f"{int(time.time()) // 10 % 9_000_000}\n")
    # where the host's address has another name first, its daemons would not know each other
    (common / "host_aliases").write_text(f"{HOST} localhost\n")
    (common / "settings.sh").write_text("".join(f"export {name}={value}\n" for name, value in ENV.items()))
    default = Path("/usr/share/gridengine/default-configuration").read_text()
    (STATE / "configuration").write_text(changed(default, CONFIGURATION))
    resources = Path("/usr/share/gridengine/util/resources")
    take_cell()
    machine.run(PROGRAMS_OF / "spoolinit", "berkeleydb", "libspoolb", STATE / "spool/db", "init", env=ENV)
    for kind, value in (
        ("configuration", STATE / "configuration"),
        ("complexes", resources / "centry"),
        ("usersets", resources / "usersets"),
        ("managers", "root"),
    ):
        machine.run(PROGRAMS_OF / "spooldefaults", kind, value, env=ENV)


def start() -> None:
    machine.daemon("/usr/sbin/sge_qmaster", env=ENV)
    if not until(lambda: output("qconf", "-sh", env=ENV) is not None, 20):
        fail(f"sge_qmaster did not start: {last_words(STATE / 'spool/qmaster/messages')}")
    for line in ("-ah", "-as"):
        output("qconf", line, HOST, env=ENV)  # fails where the master has done so itself
    complexes = machine.run("qconf", "-sc", env=ENV)
    set_up("-Mc", f"{complexes}gpu gpu INT <= YES JOB 0 0\ngpu_slot gpu_slot INT <= YES YES 0 0\n")
    set_up("-Ap", PARALLEL)
    set_up("-Ae", EXEC_HOST)
    set_up("-Ahgrp", GROUP)
    set_up("-Aq", changed(machine.run("qconf", "-sq", env=ENV), QUEUE))
    set_up("-Msconf", changed(machine.run("qconf", "-ssconf", env=ENV), SCHEDULER))
    machine.daemon("/usr/sbin/sge_execd", env=ENV)
    if not until(is_up, 30):
        fail(f"Grid Engine did not come up ({queue_state()}): {last_words(STATE / 'spool/qmaster/messages')}")


def last_words(log: Path) -> str:
    return log.read_text(errors="replace").splitlines()[-1] if log.exists() else f"nothing in {log}"


def have_packages() -> None:
    if Path(PROGRAMS[0]).exists():
        return
    # or the package makes a cluster
    answer = "gridengine-common shared/gridengineconfig boolean false\n"
    subprocess.run(["debconf-set-selections"], input=answer, text=True, check=True)
    machine.install(PACKAGES, PROGRAMS)


def up(args: argparse.Namespace) -> bool:
    begin = time.monotonic()
    if is_up():
        say("already up")
        return False
    try:
        socket.gethostbyname(HOST)
    except OSError:
        fail(f"Grid Engine needs this machine's name, {HOST}, to have an address (/etc/hosts)", machine.CANNOT)
    have_packages()
    if (STATE / "boot").exists() and (STATE / "boot").read_text() == machine.boot():
        stop_daemons()
    machine.empty(STATE)
    (STATE / "boot").write_text(machine.boot())
    write_cell()
    start()
    say(f"up in {time.monotonic() - begin:.1f} s")
    return True


def say(state: str) -> None:
    print(f"Grid Engine: {state}; queue all.q, {SLOTS} slots; -pe mlnb N; -l gpu=N of {GPUS}")
    print("  echo env | qsub -cwd -S /bin/sh -l gpu=1; qstat -f")


def jobs() -> list[str]:
    listed = (output("qstat", "-u", "*", env=ENV) or "").splitlines()[2:]
    return sorted({line.split()[0] for line in listed})


def stop_daemons() -> None:
    machine.stop((execd(),), 10)
    machine.stop((MASTER,), 2)  # it would take ten, and has nothing to keep


def down() -> None:
    begin = time.monotonic()
    if pid(*MASTER) and (left := jobs()):
        output("qdel", "-f", *left, env=ENV)
        until(lambda: not jobs(), 15)
    stop_daemons()
    return_cell()
    print(f"Grid Engine: down in {time.monotonic() - begin:.1f} s; its messages are in {STATE}/spool")


def status() -> bool:
    if is_up():
        say("up")
        return True
    running = [daemon[1] for daemon in (MASTER, execd()) if pid(*daemon)]
    print(f"Grid Engine: {'not well; running: ' + ', '.join(running) if running else 'down'}")
    return False


if __name__ == "__main__":
    os.umask(0o022)
    machine.command_line("A real Grid Engine on this machine.", STATE, up, down, status)
