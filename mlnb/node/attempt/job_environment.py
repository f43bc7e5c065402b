"""Read a batch job's environment variables: node index, host name, restart count, end of the job."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from mlnb.errors import UsageError

_NODE_INDEX = {
    "SLURM_NODEID": ("SLURM_STEP_NUM_NODES", "SLURM_NNODES"),
    "PMI_RANK": (),  # of PMI launchers, and the next of Open MPI, which start one program on each node
    "OMPI_COMM_WORLD_RANK": (),
    "JOB_COMPLETION_INDEX": (),  # of an indexed Job of Kubernetes
}
"""Variables with the node's index, and variables with the number of nodes: where there are such, one must exceed 1."""

_RESTARTS = ("MLNB_RESTARTS", "SLURM_RESTART_COUNT")


def node_index(given: int | None, nodes: int, environ: Mapping[str, str] = os.environ) -> int:
    """The index of this node among a run's ``nodes``, from 0.

    Parameters
    ----------
    given
        the command line's value; without one, the first variable of the table above that is set decides.

    Raises
    ------
    UsageError
        if no variable is set, or the run has no such node.
    """
    index, source = given, "--node"
    if index is None and nodes == 1:
        return 0  # variables of a surrounding allocation don't matter
    if index is None:
        for name, counts in _NODE_INDEX.items():
            if name in environ and (not counts or any(_number(environ, count, 1) > 1 for count in counts)):
                index, source = _number(environ, name, 0), name
                break
    if index is None:
        raise UsageError(f"can't tell which of the run's {nodes} nodes this is: pass --node K, from 0")
    if not 0 <= index < nodes:
        raise UsageError(f"{source} {index}: the run has nodes 0 to {nodes - 1}")
    return index


def restart_count(given: int | None, environ: Mapping[str, str] = os.environ) -> int:
    """How often the batch system has started this job before. ``given`` is the command line's value.

    Raises
    ------
    UsageError
        if the variable is not a number.
    """
    if given is not None:
        return given
    return next((_number(environ, name, 0) for name in _RESTARTS if environ.get(name)), 0)


def job_end(environ: Mapping[str, str] = os.environ) -> float | None:
    """When the batch system will end this job (``MLNB_DEADLINE``), in seconds since the epoch; ``None`` if unknown.

    Raises
    ------
    UsageError
        if the variable is not a number.
    """
    text = environ.get("MLNB_DEADLINE")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"MLNB_DEADLINE={text!r}: must be in seconds since the epoch") from None


def host_name(environ: Mapping[str, str] = os.environ) -> str:
    """The name of this machine in the batch system's lists, else its host name."""
    return environ.get("MLNB_HOST") or environ.get("SLURMD_NODENAME") or socket.gethostname()


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}={text!r}: must be a number") from None
