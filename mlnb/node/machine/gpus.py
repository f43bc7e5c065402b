"""Which GPUs there are for a process, by the names that CUDA_VISIBLE_DEVICES takes; CUDA itself stays untouched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_NONE = frozenset({"", "-1", "NoDevFiles"})
"""Words in the variable that stand for no GPU; the last is SLURM's."""


def visible_gpus(environ: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """What CUDA_VISIBLE_DEVICES names: indices, UUIDs, MIG devices; ``None`` where it isn't set."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    return tuple(one.strip() for one in named.split(",") if one.strip() not in _NONE)


def nvml_gpus() -> tuple[str, ...]:
    """All that NVML sees: the machine's, or those of a job or container that others are hidden from."""
    nvml = open_nvml()
    return () if nvml is None else tuple(str(index) for index in range(nvml.nvmlDeviceGetCount()))


def job_gpus(asked: int) -> tuple[str, ...]:
    """Those of a job that asked for ``asked`` GPUs: its system names them by the variable, or hides all others."""
    named = visible_gpus()
    return named if named is not None else nvml_gpus() if asked else ()


def open_nvml() -> Any:
    """NVML's module, ready to be asked; ``None`` where there is no such library or no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - NVML raises its own family of errors; training goes on without samples
        return None
    return pynvml


def nvml_handle(nvml: Any, name: str) -> Any:
    """NVML's handle of a GPU; ``None`` where it knows none of that name."""
    try:
        if name.isdecimal():
            return nvml.nvmlDeviceGetHandleByIndex(int(name))
        return nvml.nvmlDeviceGetHandleByUUID(_whole(nvml, name))
    except Exception:  # noqa: BLE001 - as above; whatever the name is, the other GPUs are sampled
        return None


def _whole(nvml: Any, name: str) -> str:
    """A UUID of which CUDA takes the beginning too."""
    for index in range(nvml.nvmlDeviceGetCount()):
        uuid = str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        if uuid.startswith(name):
            return uuid
    return name
