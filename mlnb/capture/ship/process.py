"""Process: the state of the session's process that a cell may read, but for what the machine or the kernel sets."""

# ruff: noqa: SIM905 - long lists of words are easier to read in one string
from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlnb.capture.ship import secrets
from mlnb.node.data import process_state
from mlnb.node.data.process_state import ProcessState
from mlnb.targets.environment import is_passed_on


def session_state(code: Iterable[ast.AST] = (), libraries: Collection[str] = ()) -> tuple[ProcessState, list[str]]:
    """The process's state, and what to tell the user.

    Of its environment: what was set in the session itself, what code names, and what is named after a library.

    Parameters
    ----------
    code
        what the run will execute.
    libraries
        the top-level modules that it uses.
    """
    environ, notes = {}, []
    own = dict(_not_passed_on())
    began = _began_with()
    named = frozenset().union(*map(names_in_strings, code)) & own.keys()
    prefixes = tuple(prefix for library in {"torch", *libraries} for prefix in _prefixes(library))
    chosen = {name for name, value in own.items() if began.get(name) != value} | named
    chosen |= {name for name in own if name.startswith(prefixes)}
    for name, value in [*((name, own[name]) for name in sorted(chosen)), *_trackers()]:
        if secrets.named_secret(name, value) or secrets.looks_secret(value):
            why = "is read by the cell" if name in named else "is for a library that the cell uses"
            why = "was set in this session" if began.get(name) != value else why
            notes.append(f"{name} {why} and looks like a credential: add --env {name} to send it")
        else:
            environ[name] = value
    kept_back = tuple(sorted(own.keys() - environ.keys()))
    return replace(process_state.read(), environ=environ, kept_back=kept_back), notes


def _not_passed_on() -> Iterator[tuple[str, str]]:
    """The variables that a run doesn't get anyway, but for those of the machine and of the kernel."""
    for name, value in os.environ.items():
        if not is_passed_on(name) and not any(fnmatchcase(name, own) for own in _OWN):
            yield name, value


def _began_with() -> dict[str, str]:
    """The environment with which this process began."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)


@functools.lru_cache(maxsize=4096)
def names_in_strings(tree: ast.AST) -> frozenset[str]:
    """The strings in code that may be the name of a variable: ``getenv("X")``, ``env("X")``, ``"${oc.env:X}"``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier():
                found.add(node.value)
            elif "$" in node.value:
                found.update(re.findall(r"\$\{?(?:oc\.env:|env:|oc\.decode:)?(\w+)", node.value))
    return frozenset(found)


def _prefixes(library: str) -> tuple[str, ...]:
    """With what the names of variables begin that are for a library."""
    return (f"{library.upper()}_", *_OTHER_PREFIXES.get(library, ()))


_OTHER_PREFIXES = {
    **dict.fromkeys(("accelerate", "datasets", "diffusers", "huggingface_hub", "peft", "transformers"), ("HF_",)),
    **dict.fromkeys(("lightning", "pytorch_lightning"), ("PL_",)),
    "sklearn": ("SKLEARN_", "SCIKIT_LEARN_"),
    "tensorflow": ("TF_",),
    "torch": ("TORCHDYNAMO_",),
}


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
