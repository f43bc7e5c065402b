"""SLURM's nodes and partitions as they are now, for words about runs that wait.

One look serves all runs and all observers of a user on a machine for a while. Nobody is held up for it: who can't have
it, has what was known before.
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
from mlnb.targets.batch.slurm.nodes import NODES, PARTITIONS, Node, Partition, parse_nodes, parse_partitions
from mlnb.targets.batch.system import System
from mlnb.targets.config.paths import runtime_dir
from mlnb.targets.locks import try_lock

_PATIENCE = 2.0

Cluster = tuple[Mapping[str, Node], Mapping[str, Partition]]


def look(system: System, interval: float) -> Cluster:
    """The nodes and partitions of ``system``, read at most once in ``interval`` seconds; empty if they can't be."""
    path = _path(system)
    if not _fresh(path, interval):
        lock = try_lock(path.with_suffix(".lock"))
        if lock is not None:
            try:
                if not _fresh(path, interval):
                    _take(system, path)
            finally:
                os.close(lock)
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}, {}


def _take(system: System, path: Path) -> None:
    """Ask; where there is no answer, what was known before counts as new, lest everybody asks in turn."""
    try:
        told = {"nodes": system.run(NODES, _PATIENCE), "partitions": system.run(PARTITIONS, _PATIENCE)}
    except MlnbError:
        told = read_json(path) or {}
    write_json(path, told)


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Cluster:
    """Read once for each time it was written: thousands of nodes take a while."""
    told = read_json(path) or {}
    return parse_nodes(told.get("nodes", "")), parse_partitions(told.get("partitions", ""))


def _fresh(path: Path, interval: float) -> bool:
    try:
        return 0.0 <= time.time() - path.stat().st_mtime < interval
    except FileNotFoundError:
        return False


def _path(system: System) -> Path:
    """One file for each cluster as this environment finds it."""
    where = json.dumps({name: value for name, value in sorted(system.environment().items()) if "SLURM" in name})
    return runtime_dir() / f"cluster-{hashlib.sha256(where.encode()).hexdigest()[:12]}.json"
