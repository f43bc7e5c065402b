"""Batch systems: what mlnb needs of each beyond dask-jobqueue's Job class, one file a system."""

from __future__ import annotations

from mlnb.targets.systems.base import System
from mlnb.targets.systems.gridengine import GridEngine
from mlnb.targets.systems.htcondor import HTCondor
from mlnb.targets.systems.lsf import Lsf
from mlnb.targets.systems.oar import Oar
from mlnb.targets.systems.pbs import Moab, Pbs
from mlnb.targets.systems.slurm import Slurm

__all__ = ["SYSTEMS", "System"]

SYSTEMS: dict[str, type[System]] = {
    system.kind: system for system in (Slurm, GridEngine, Pbs, Moab, Lsf, Oar, HTCondor)
}
"""By the name that ``kind:`` of a target gives, which is also what dask-jobqueue calls its section."""
