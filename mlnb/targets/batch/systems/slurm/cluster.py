"""Reads SLURM's current nodes and partitions, which explain why runs wait.

They are read once for all runs and all processes of a user on this machine, and cached for a while. While one process
reads them, the others use the last result.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from mlnb.errors import MlnbError
from mlnb.rundir import read_json, write_json
from mlnb.targets.batch.system import System
from mlnb.targets.batch.systems.slurm.nodes import (
    NODES_COMMAND,
    PARTITIONS_COMMAND,
    Node,
    Partition,
    parse_nodes,
    parse_partitions,
)
from mlnb.targets.locks import try_lock

_TIMEOUT = 2.0

Cluster = tuple[Mapping[str, Node], Mapping[str, Partition]]


def read_cluster(system: System, interval: float) -> Cluster:
    """The nodes and partitions of ``system``, read at most once in ``interval`` seconds; empty if they can't be."""
    path = _path(system)
    if not _fresh(path, interval):
        lock = try_lock(path.with_suffix(".lock"))
        if lock is not None:
            try:
                if not _fresh(path, interval):
                    _update(system, path)
            finally:
                os.close(lock)
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}, {}


def _update(system: System, path: Path) -> None:
    """Query SLURM. Without an answer the last result counts as new, so that not every process repeats the query."""
    try:
        output = {"nodes": system.run(NODES_COMMAND, _TIMEOUT), "partitions": system.run(PARTITIONS_COMMAND, _TIMEOUT)}
    except MlnbError:
        output = read_json(path) or {}
    write_json(path, output)


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Cluster:
    """Parsed once for each time the file was written: thousands of nodes take a while."""
    output = read_json(path) or {}
    return parse_nodes(output.get("nodes", "")), parse_partitions(output.get("partitions", ""))


def _fresh(path: Path, interval: float) -> bool:
    try:
        return 0.0 <= time.time() - path.stat().st_mtime < interval
    except FileNotFoundError:
        return False


def _path(system: System) -> Path:
    """One file for each cluster as this environment finds it."""
    key = json.dumps({name: value for name, value in sorted(system.environment().items()) if "SLURM" in name})
    return system.workspace.runtime_dir() / f"cluster-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
