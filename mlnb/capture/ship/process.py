"""Process: the state of the session's process that a cell may read, but for what the machine or the kernel sets."""

# ruff: noqa: SIM905 - long lists of words are easier to read in one string
from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlnb.capture.ship import secrets
from mlnb.node.data import process_state
from mlnb.node.data.process_state import ProcessState
from mlnb.targets.environment import is_passed_on


def session_state() -> tuple[ProcessState, list[str]]:
    """The process's state, and what to tell the user; of its environment only what was set in the session itself."""
    environ, notes = {}, []
    for name, value in [*_set_in_session(), *_trackers()]:
        if secrets.named_secret(name, value) or secrets.looks_secret(value):
            notes.append(f"{name} was set in this session and looks like a credential: add --env {name} to send it")
        else:
            environ[name] = value
    return replace(process_state.read(), environ=environ), notes


def _set_in_session() -> Iterator[tuple[str, str]]:
    """The environment variables that have another value than when this process began."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return
    began = dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)
    for name, value in sorted(os.environ.items()):
        if began.get(name) != value and not is_passed_on(name) and not any(fnmatchcase(name, own) for own in _OWN):
            yield name, value


def _trackers() -> Iterator[tuple[str, str]]:
    """Variables by which W&B and MLflow go on with the run that is active in the session."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # whatever version it is
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run is not None:
            found |= {"WANDB_RUN_ID": run.id, "WANDB_PROJECT": run.project, "WANDB_ENTITY": run.entity}
            found["WANDB_RESUME"] = "allow"
    with contextlib.suppress(Exception):
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None:
            found["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()
            active = mlflow.active_run()
            found["MLFLOW_RUN_ID"] = active.info.run_id if active is not None else None
    for name, value in found.items():
        if isinstance(value, str) and name not in os.environ:
            yield name, value


_OWN = (
    *("CLICOLOR CLICOLOR_FORCE COLUMNS FORCE_COLOR GIT_PAGER JPY_* LINES MPLBACKEND PAGER PWD PYDEVD_*".split()),
    *("*_VISIBLE_DEVICES RANK LOCAL_RANK GROUP_RANK *WORLD_SIZE MASTER_ADDR MASTER_PORT".split()),
    *("MLNB_* SLURM_* PBS_* LSB_* SGE_* TORCHELASTIC_* TORCHINDUCTOR_* _".split()),
)
"""Variables of a kernel itself, and those that say where a process runs: a run has its own."""
