"""Process: the state of the session's process that a cell may read, but for what the machine or the kernel sets."""

# ruff: noqa: SIM905 - long lists of words are easier to read in one string
from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from mlnb.capture.ship import secrets
from mlnb.node.data import process_state
from mlnb.node.data.process_state import ProcessState
from mlnb.targets.environment import is_passed_on


def session_state() -> tuple[ProcessState, list[str]]:
    """The process's state, and what to tell the user; of its environment only what was set in the session itself."""
    environ, notes = {}, []
    for name, value in _set_in_session():
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


_OWN = (
    *("CLICOLOR CLICOLOR_FORCE COLUMNS FORCE_COLOR GIT_PAGER JPY_* LINES MPLBACKEND PAGER PWD PYDEVD_*".split()),
    *("*_VISIBLE_DEVICES RANK LOCAL_RANK GROUP_RANK *WORLD_SIZE MASTER_ADDR MASTER_PORT".split()),
    *("MLNB_* SLURM_* PBS_* LSB_* SGE_* TORCHELASTIC_* TORCHINDUCTOR_* _".split()),
)
"""Variables of a kernel itself, and those that say where a process runs: a run has its own."""
