"""List a process's GPUs by the names that ``CUDA_VISIBLE_DEVICES`` takes, without initialising CUDA."""

from __future__ import annotations

import itertools
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
    names = (name.strip() for name in value.split(","))
    return tuple(itertools.takewhile(lambda name: name not in _NONE, names))  # CUDA ignores what follows such a name


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


def physical_ids(names: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, tuple[str, ...]]:
    """What identifies each of these GPUs on this machine, by name: two names of one GPU have an id in common.

    A GPU has several names: its index, which counts only the visible ones, and its UUID or the beginning of that. The
    ids are UUIDs: the GPU's own, and those of the MIG devices that it is cut into. A GPU is left out if NVML does not
    know it, and an index if CUDA counts in an order of its own (the fastest first) and the models differ.
    """
    nvml = open_nvml()
    if nvml is None:
        return {}
    by_bus = "CUDA_VISIBLE_DEVICES" not in environ or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    ids = {}
    for name in names:
        if name.isdecimal() and not by_bus and not _one_model(nvml):
            continue
        handle = nvml_handle(nvml, name)
        if handle is not None:
            ids[name] = (str(nvml.nvmlDeviceGetUUID(handle)), *_mig_ids(nvml, handle))
    return ids


def _one_model(nvml: Any) -> bool:
    handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    return len({nvml.nvmlDeviceGetName(handle) for handle in handles}) <= 1


def _mig_ids(nvml: Any, handle: Any) -> tuple[str, ...]:
    """The UUIDs of the MIG devices of a GPU; empty if it has none, or is one itself."""
    ids = []
    try:
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            ids.append(str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))))
    except Exception:  # noqa: BLE001 - NVML's own errors: there is none of that index, or the GPU can't be cut
        return tuple(ids)
    return tuple(ids)


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
