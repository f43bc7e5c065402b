"""Fork a rank from the node program, which has imported torch already: once per node, not once per rank.

The ranks get the environment variables that torchrun sets (torch.distributed.run, "Environment Variables"), so that
code written for torchrun runs unmodified. One process for which no ranks were requested gets none of them: code that
asks for them would distribute itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable

from mlnb.node.checkpoint.names import RESUME
from mlnb.node.process.orphan_guard import OrphanGuard
from mlnb.node.rank import stop
from mlnb.node.rendezvous.base import Agreement
from mlnb.rundir import RunDir
from mlnb.task import Task


def environment(
    run_dir: RunDir,
    run_id: str,
    task: Task,
    *,
    rank: int,
    local_rank: int,
    node: int,
    attempt: int,
    agreement: Agreement,
    cpus: int,
    is_distributed: bool,
) -> dict[str, str]:
    """The environment variables in which a rank differs from the node program.

    Parameters
    ----------
    cpus
        the default for ``OMP_NUM_THREADS``.
    is_distributed
        whether the variables of torchrun are among them. NCCL's own stay as they are: it finds the interfaces itself,
        skips the loopback and needs no host name.
    """
    own = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cpus)),
        "MLNB_RUN": str(run_dir.path),
        "MLNB_CHECKPOINTS": str(run_dir.checkpoints),
        RESUME: agreement.checkpoint,
        "MLNB_RANK": str(rank),
        "MLNB_WORLD_SIZE": str(task.resources.world_size),
        "MLNB_MASTER_ADDR": agreement.master.address,
        "MLNB_MASTER_PORT": str(agreement.master.port),
    }
    if not is_distributed:
        return own
    world, local = task.resources.world_size, task.resources.ranks
    gloo = os.environ.get("GLOO_SOCKET_IFNAME", agreement.master.interface)
    return {
        **own,
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(local),
        "GROUP_RANK": str(node),
        "GROUP_WORLD_SIZE": str(task.resources.nodes),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": str(world),
        "ROLE_NAME": "default",
        "MASTER_ADDR": agreement.master.address,
        "MASTER_PORT": str(agreement.master.port),
        "TORCHELASTIC_RESTART_COUNT": str(attempt - 1),
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        **({} if gloo is None else {"GLOO_SOCKET_IFNAME": gloo}),
    }


def ignore_fork_warnings() -> None:
    """Silence Python's warning about forking with threads: mlnb starts none here, and libraries handle forks."""
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
    agreement: Agreement,
    cpus: int,
    is_distributed: bool,
    guard: OrphanGuard,
    close_in_child: Callable[[], None],
) -> int:
    """Fork a rank. Returns its pid, which is its process group, too.

    ``close_in_child`` is called in the rank. It closes connections whose end other processes have to notice.
    """
    rank = node * task.resources.ranks + local_rank
    variables = environment(
        run_dir,
        run_id,
        task,
        rank=rank,
        local_rank=local_rank,
        node=node,
        attempt=attempt,
        agreement=agreement,
        cpus=cpus,
        is_distributed=is_distributed,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, stop.SIGNALS)  # until the rank has its own handlers
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stop.install_handlers()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.SIGNALS)
            guard.close_in_child()
            close_in_child()
            os.environ.update(variables)
            from mlnb.node.rank_program import RankInfo, run_and_exit

            run_and_exit(run_dir, run_id, task, RankInfo(rank, local_rank, node, attempt))
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.SIGNALS)
    with contextlib.suppress(OSError):  # the rank has done so itself, or has ended
        os.setpgid(pid, pid)
    guard.add(pid)
    return pid
