"""Ranks are forked from the node program, which has torch imported already: one import a node, not one a rank.

Their environment is torchrun's contract (torch.distributed.run, "Environment Variables"), so that code written for
torchrun runs unmodified.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable

from mlnb.node.gang.addresses import MasterAddress
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.node.rank import stop
from mlnb.rundir import RunDir
from mlnb.task import Task

_ENDING = {signal.SIGTERM, signal.SIGUSR1}


def environment(
    run_dir: RunDir,
    run_id: str,
    task: Task,
    *,
    rank: int,
    local_rank: int,
    node: int,
    attempt: int,
    meeting: MasterAddress,
    cpus: int,
) -> dict[str, str]:
    """The variables of one rank that differ from the node program's own.

    NCCL's are left alone: it finds the interfaces by itself, leaves out the loopback and needs no host name.
    """
    world, local = task.resources.world_size, task.resources.ranks
    gloo = os.environ.get("GLOO_SOCKET_IFNAME", meeting.interface)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(local),
        "GROUP_RANK": str(node),
        "GROUP_WORLD_SIZE": str(task.resources.nodes),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": str(world),
        "ROLE_NAME": "default",
        "MASTER_ADDR": meeting.address,
        "MASTER_PORT": str(meeting.port),
        "TORCHELASTIC_RESTART_COUNT": str(attempt - 1),
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cpus)),
        "MLNB_RUN": str(run_dir.path),
        "MLNB_CHECKPOINTS": str(run_dir.checkpoints),
        **({} if gloo is None else {"GLOO_SOCKET_IFNAME": gloo}),
    }


def expect_forks() -> None:
    """Have Python not warn of what this program is for: our own threads are none, libraries' look after themselves."""
    if sys.version_info >= (3, 12):
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)


def fork_rank(
    run_dir: RunDir,
    run_id: str,
    task: Task,
    *,
    local_rank: int,
    node: int,
    attempt: int,
    meeting: MasterAddress,
    cpus: int,
    guard: OrphanGuard,
    let_go: Callable[[], None],
) -> int:
    """Start a rank; its pid, which is its process group too.

    ``let_go`` is called in the rank: what it must not hold open, since its end is to be seen by others.
    """
    rank = node * task.resources.ranks + local_rank
    variables = environment(
        run_dir, run_id, task, rank=rank, local_rank=local_rank, node=node, attempt=attempt, meeting=meeting, cpus=cpus
    )
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until the rank has handlers of its own
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stop.install_handlers()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            guard.close_in_child()
            let_go()
            os.environ.update(variables)
            from mlnb.node.rank_program import RankInfo, run_and_exit

            run_and_exit(run_dir, run_id, task, RankInfo(rank, local_rank, node, attempt))
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    with contextlib.suppress(OSError):  # it has done so itself, or is gone already
        os.setpgid(pid, pid)
    guard.add(pid)
    return pid
