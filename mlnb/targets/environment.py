"""The environment of a run: what a program needs to work, and what was asked for. Nothing else of the session's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

_PASSED = (  # noqa: SIM905 - reads as the list it is
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TMPDIR TERM HOSTNAME LD_LIBRARY_PATH LIBRARY_PATH "
    "PYTHONPATH PYTHONHOME PYTHONNOUSERSITE PYTHONUSERBASE PYTHONDONTWRITEBYTECODE VIRTUAL_ENV CONDA_* MAMBA_* "
    "XDG_* OMP_* MKL_* OPENBLAS_* NUMEXPR_* KMP_* CUDA_* NVIDIA_* NCCL_* GLOO_* TORCH_HOME TORCH_EXTENSIONS_DIR "
    "PYTORCH_* HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_DATASETS_CACHE TRANSFORMERS_CACHE SSL_CERT_FILE SSL_CERT_DIR "
    "REQUESTS_CA_BUNDLE no_proxy NO_PROXY MLNB_RUNS MLNB_RUNTIME DASK_CONFIG"
).split()


def passed(asked: Mapping[str, str], session: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a run.

    Parameters
    ----------
    asked
        what was named with ``--env``.
    session
        where the rest comes from; by default this process's environment. Tokens and everything else that a
        program does not need in order to start stay behind.
    """
    return {**matching(_PASSED, session), **asked}


def matching(patterns: Sequence[str], session: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of ``session``, by default this process's environment, that one of ``patterns`` names."""
    source = os.environ if session is None else session
    return {name: value for name, value in source.items() if any(fnmatchcase(name, one) for one in patterns)}
