"""What a batch system says in the environment: which node this is, what it is called, which attempt, until when."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from mlnb.errors import UsageError

_NODE = (
    # variable, set by, and which variables must tell of several nodes for it to count
    ("SLURM_NODEID", "SLURM", ("SLURM_STEP_NUM_NODES", "SLURM_NNODES")),
    ("PMI_RANK", "PMI launchers, started once a node", ()),
    ("OMPI_COMM_WORLD_RANK", "Open MPI, started once a node", ()),
    ("JOB_COMPLETION_INDEX", "an indexed Job of Kubernetes", ()),
)
_RESTARTS = ("MLNB_RESTARTS", "SLURM_RESTART_COUNT")


def node_index(asked: int | None, nodes: int, environ: Mapping[str, str] = os.environ) -> int:
    """Which of a run's ``nodes`` this is, from 0.

    Parameters
    ----------
    asked
        what the command line says; without it the first variable of the table above counts that is set.

    Raises
    ------
    UsageError
        if nothing tells, or there is no such node.
    """
    found, by = asked, "--node"
    if found is None and nodes == 1:
        return 0  # whatever allocation this process happens to be in
    if found is None:
        for name, _, proof in _NODE:
            if name in environ and (not proof or any(_number(environ, one, 1) > 1 for one in proof)):
                found, by = _number(environ, name, 0), name
                break
    if found is None:
        raise UsageError(f"which of the run's {nodes} nodes is this? --node K tells, from 0")
    if not 0 <= found < nodes:
        raise UsageError(f"{by} {found}: the run has nodes 0 to {nodes - 1}")
    return found


def restart_count(asked: int | None, environ: Mapping[str, str] = os.environ) -> int:
    """How often the system has started this job before.

    Raises
    ------
    UsageError
        if what the environment holds is no number.
    """
    if asked is not None:
        return asked
    return next((_number(environ, name, 0) for name in _RESTARTS if environ.get(name)), 0)


def deadline(environ: Mapping[str, str] = os.environ) -> float | None:
    """When the system will end this job (``MLNB_DEADLINE``), in seconds since the epoch, if it says so.

    Raises
    ------
    UsageError
        if what the environment holds is no number.
    """
    text = environ.get("MLNB_DEADLINE")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"MLNB_DEADLINE={text!r}: seconds since the epoch are meant") from None


def host_name(environ: Mapping[str, str] = os.environ) -> str:
    """What people there call this machine: its name in the system's own lists, else its host name."""
    return environ.get("MLNB_HOST") or environ.get("SLURMD_NODENAME") or socket.gethostname()


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}={text!r}: a number is meant") from None
