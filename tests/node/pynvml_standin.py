"""A stand-in for NVML's Python module, for machines without a GPU: two GPUs, one of which is cut into MIG devices.

It answers as nvidia-ml-py does, its own kind of errors included. What a real driver says it can't show.
"""

from __future__ import annotations

from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0

_UUIDS = ("GPU-11111111-aaaa", "GPU-22222222-bbbb")
_MIG = "MIG-33333333-cccc"


class NVMLError(Exception):
    """What every function here raises."""


def nvmlInit() -> None:
    """There is a driver."""


def nvmlDeviceGetCount() -> int:
    return len(_UUIDS)


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    if index >= len(_UUIDS):
        raise NVMLError("Invalid Argument")
    return _UUIDS[index]


def nvmlDeviceGetHandleByUUID(uuid: str) -> str:
    if uuid not in (*_UUIDS, _MIG):
        raise NVMLError("Not Found")
    return uuid


def nvmlDeviceGetUUID(handle: str) -> str:
    return handle


def nvmlDeviceGetMaxMigDeviceCount(handle: str) -> int:
    if handle == _MIG:
        raise NVMLError("Invalid Argument")
    return 7 if handle == _UUIDS[1] else 0


def nvmlDeviceGetMigDeviceHandleByIndex(handle: str, index: int) -> str:
    if index:
        raise NVMLError("Not Found")
    return _MIG


def nvmlDeviceGetName(handle: str) -> str:
    return f"Stand-in {handle.partition('-')[0]}"


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:
    return SimpleNamespace(used=1000, total=8000)


def nvmlDeviceGetUtilizationRates(handle: str) -> SimpleNamespace:
    if handle == _MIG:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=50)


def nvmlDeviceGetPowerUsage(handle: str) -> int:
    return 70_000


def nvmlDeviceGetTemperature(handle: str, sensor: int) -> int:
    return 40
