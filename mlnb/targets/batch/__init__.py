"""Batch systems: what mlnb needs of each beyond dask-jobqueue's Job class, one file a system."""

from __future__ import annotations

from mlnb.targets.batch.gridengine.system import GridEngine
from mlnb.targets.batch.htcondor import HTCondor
from mlnb.targets.batch.lsf import Lsf
from mlnb.targets.batch.oar import Oar
from mlnb.targets.batch.pbs import Moab, Pbs
from mlnb.targets.batch.slurm.system import Slurm
from mlnb.targets.batch.system import System

__all__ = ["SYSTEMS", "System"]

SYSTEMS: dict[str, type[System]] = {
    system.kind: system for system in (Slurm, GridEngine, Pbs, Moab, Lsf, Oar, HTCondor)
}
"""By the name that ``kind:`` of a target gives, which is also what dask-jobqueue calls its section."""
