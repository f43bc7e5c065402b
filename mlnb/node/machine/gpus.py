"""List a process's GPUs by the names that ``CUDA_VISIBLE_DEVICES`` takes, without initialising CUDA."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

_NONE = frozenset({"", "-1", "NoDevFiles"})
"""Values of the variable that stand for no GPU; the last is SLURM's."""


def visible_gpus(environ: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """The GPUs in ``CUDA_VISIBLE_DEVICES``: indices, UUIDs or MIG devices; ``None`` where it isn't set."""
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    return tuple(name.strip() for name in value.split(",") if name.strip() not in _NONE)


def show_gpus(names: Sequence[str], environ: MutableMapping[str, str] = os.environ) -> None:
    """Let CUDA see these GPUs only, once it is initialised in this process or one that it starts.

    Where the variable was not set, indices are NVML's, which counts along the PCI bus. CUDA has to be told to count so:
    by default the fastest GPU is its first (CUDA C++ Programming Guide, "CUDA Environment Variables").
    """
    if "CUDA_VISIBLE_DEVICES" not in environ:
        environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)


def nvml_gpus() -> tuple[str, ...]:
    """All GPUs that NVML sees: the machine's, or those of the job or container."""
    nvml = open_nvml()
    if nvml is None:
        return ()
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:  # as after a fault of the hardware
        return ()
    return tuple(str(index) for index in range(count))


def job_gpus(requested: int) -> tuple[str, ...]:
    """The GPUs of a job that requested this many: its batch system sets the variable, or hides all others."""
    visible = visible_gpus()
    if visible is not None:
        return visible
    return nvml_gpus() if requested else ()


def open_nvml() -> Any:
    """The initialised ``pynvml`` module; ``None`` without that library or without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - NVML raises its own family of errors; training continues without samples
        return None
    return pynvml


def nvml_handle(nvml: Any, name: str) -> Any:
    """NVML's handle of a GPU; ``None`` if NVML has none of that name."""
    try:
        if name.isdecimal():
            return nvml.nvmlDeviceGetHandleByIndex(int(name))
        return nvml.nvmlDeviceGetHandleByUUID(_full_uuid(nvml, name))
    except Exception:  # noqa: BLE001 - as above; the other GPUs are sampled all the same
        return None


def _full_uuid(nvml: Any, name: str) -> str:
    """The UUID that ``name`` abbreviates: CUDA accepts a prefix, NVML doesn't."""
    for index in range(nvml.nvmlDeviceGetCount()):
        uuid = str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        if uuid.startswith(name):
            return uuid
    return name
