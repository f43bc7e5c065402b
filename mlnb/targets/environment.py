"""The environment variables of a run: only those that programs need to start, and those of ``--env``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mlnb.workspace import Workspace

_NEEDED = (  # noqa: SIM905 - reads as the list it is
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TMPDIR TERM HOSTNAME LD_LIBRARY_PATH LIBRARY_PATH "
    "PYTHONPATH PYTHONHASHSEED PYTHONHOME PYTHONNOUSERSITE PYTHONUSERBASE PYTHONDONTWRITEBYTECODE "
    "VIRTUAL_ENV CONDA_* MAMBA_* XDG_* OMP_* MKL_* OPENBLAS_* NUMEXPR_* KMP_* "
    "CUDA_* NVIDIA_* NCCL_* GLOO_* TORCH_HOME TORCH_EXTENSIONS_DIR PYTORCH_* HF_HOME "
    "HF_HUB_CACHE HF_HUB_OFFLINE HF_DATASETS_CACHE TRANSFORMERS_CACHE SSL_CERT_FILE SSL_CERT_DIR "
    "REQUESTS_CA_BUNDLE no_proxy NO_PROXY"
).split()

_HASH_SEED = "PYTHONHASHSEED"
"""Without one, on each node and in each attempt of a run sets of strings would have an order of their own."""


def run_environment(
    requested: Mapping[str, str], workspace: Workspace, session: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a run.

    Parameters
    ----------
    requested
        the variables of ``--env``.
    workspace
        of the run; programs in the run that use mlnb find it by its variables.
    session
        the environment that the other variables come from; by default this process's. Tokens, and everything else that
        a program does not need in order to start, are left out.
    """
    variables = {**matching_variables(_NEEDED, session), **workspace.variables(), **requested}
    if variables.get(_HASH_SEED, "random") in ("", "random"):
        variables[_HASH_SEED] = "0"
    return variables


def matching_variables(patterns: Sequence[str], session: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of ``session``, by default this process's environment, whose names match one of ``patterns``."""
    source = os.environ if session is None else session
    return {name: value for name, value in source.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def is_passed_on(name: str) -> bool:
    """Whether a run has the variable ``name`` of the process that submits it, as programs need it in order to start."""
    return any(fnmatchcase(name, pattern) for pattern in _NEEDED)
