"""The configuration of the SLURM testbed: what its nodes, partitions and GPUs are."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

NODES = ("node1", "node2", "node3")
#: those of testbed number 0; a hundred more for each one that is up beside it
CONTROL_PORT, DATABASE_PORT, MARIADB_PORT, FIRST_NODE_PORT = 16817, 16819, 16820, 17001
GPUS_A_NODE = 2

#: name, the GPUs' type, features (as sites use them: what the GPU is, and how much memory it has)
HARDWARE = (
    ("node1", "a100", "a100,gpu80g"),
    ("node2", "a100", "a100,gpu40g"),
    ("node3", "v100", "v100,gpu32g"),
)

# Limits, sizes and waits are small, so that tests meet them. DefMemPerCPU: without it a job that names no memory gets
# all of the node's, and is alone there. cred_expire: a requeued job waits that long before it may start again,
# and a test has that long to see it wait.
# FirstJobId differs from one testbed to the next, so that a job id that someone kept never means another job, and that
# the jobs of several testbeds have control groups of their own; the highest that SLURM gives is 67 million.
SLURM_CONF = """\
ClusterName=mlnb
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
{listening}
AuthType=auth/munge
AuthInfo=cred_expire=60
CredType=cred/munge
SlurmctldPort={control}
SlurmctldPidFile={state}/run/slurmctld.pid
SlurmdPidFile={state}/run/slurmd-%n.pid
StateSaveLocation={state}/spool/ctld
SlurmdSpoolDir={state}/spool/d-%n
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/slurmd-%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
FirstJobId={first_job}
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
{tracking}
JobAcctGatherFrequency=1
{accounting}
JobCompType=jobcomp/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=60
InactiveLimit=0
{nodes}
PartitionName=gpu   Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high  Nodes=ALL MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL DefaultTime=1:00 MaxTime=5:00 MaxNodes=1 State=UP PriorityTier=1 PreemptMode=REQUEUE
"""

NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=6000 "
    "Gres=gpu:{kind}:{gpus} Feature={features} State=UNKNOWN"
)

CGROUP_TRACKING = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup"""

# Nobody enforces memory here but the sampling of it.
PROC_TRACKING = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill"""

CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainDevices=yes
"""

# Without slurmdbd only the first may be there: slurmctld dies, after it became a daemon, if there is a TRES without it.
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database}
AccountingStorageTRES=gres/gpu"""

#: the file that only a testbed with accounting has
ACCOUNTED = "slurmdbd.conf"
SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost={host}
DbdAddr=127.0.0.1
{listening}
DbdPort={database}
SlurmUser=root
LogFile={state}/log/slurmdbd.log
PidFile={state}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageLoc=slurm
StorageUser=slurm
StoragePass=slurm
"""


def listening() -> str:
    """The line that has its daemons listen on loopback only.

    They can bind to what this machine's name means, and to nothing else; it helps if that is 127.0.0.1, from where
    their answers come. Elsewhere they listen everywhere, and know by munge whom they serve.
    """
    try:
        only_there = socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    except OSError:
        only_there = False
    return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if only_there else ""


def has_cgroups() -> bool:
    """Whether this machine has version 1 control groups that root may write (SLURM 22.05's version 2 needs systemd)."""
    return all(os.access(f"/sys/fs/cgroup/{kind}/cgroup.procs", os.W_OK) for kind in ("memory", "devices", "freezer"))


def fake_gpus(folder: Path) -> list[Path]:
    """Device files for all nodes' GPUs; ordinary files where mknod is not allowed, which then nobody constrains."""
    folder.mkdir()
    made = []
    for number in range(len(NODES) * GPUS_A_NODE):
        path = folder / f"fakegpu{number}"
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(195, number))
        except PermissionError:
            path.touch()
        path.chmod(0o666)
        made.append(path)
    return made


def number(state: Path) -> int:
    """Which of several testbeds this is: the number at the end of the folder's name, ``mlnb-slurm-1``; else 0."""
    last = state.name.rpartition("-")[2]
    return int(last) if last.isdecimal() and len(last) == 1 else 0


def ports(state: Path) -> dict[str, int]:
    """The ports of a testbed's daemons; each node's is one more than that of the node before."""
    first = {"control": CONTROL_PORT, "database": DATABASE_PORT, "mariadb": MARIADB_PORT, "node": FIRST_NODE_PORT}
    return {daemon: port + 100 * number(state) for daemon, port in first.items()}


def write(state: Path, accounting: bool) -> None:
    """Write all configuration files, and make the folders that they name."""
    for folder in ("run", "log", "spool", "spool/ctld", *(f"spool/d-{name}" for name in NODES)):
        (state / folder).mkdir(mode=0o755)
    fake_gpus(state / "dev")
    host = socket.gethostname().split(".")[0]
    port = ports(state)
    words = {"host": host, "listening": listening(), "state": state, **port}
    nodes, gres = [], []
    for index, (name, kind, features) in enumerate(HARDWARE):
        listens = port["node"] + index
        nodes.append(NODE.format(name=name, host=host, port=listens, kind=kind, gpus=GPUS_A_NODE, features=features))
        first = index * GPUS_A_NODE
        devices = f"{state}/dev/fakegpu[{first}-{first + GPUS_A_NODE - 1}]"
        gres.append(f"NodeName={name} Name=gpu Type={kind} File={devices}\n")
    text = SLURM_CONF.format(
        **words,
        first_job=int(time.time()) // 10 % 6_000_000 + 6_000_000 * number(state) + 1,
        tracking=CGROUP_TRACKING if has_cgroups() else PROC_TRACKING,
        accounting=ACCOUNTING.format(**words) if accounting else NO_ACCOUNTING,
        nodes="\n".join(nodes),
    )
    (state / "slurm.conf").write_text(text)
    (state / "gres.conf").write_text("".join(gres))
    (state / "cgroup.conf").write_text(CGROUP_CONF)
    if accounting:
        secret = state / ACCOUNTED
        secret.touch(mode=0o600)  # slurmdbd insists
        secret.write_text(SLURMDBD_CONF.format(**words))
