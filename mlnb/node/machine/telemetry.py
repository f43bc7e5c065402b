"""Sample the CPU, memory and GPU use of a run's own processes (never the whole machine's load)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from mlnb.node.machine.gpus import nvml_handle, open_nvml
from mlnb.node.process.identity import process_stat

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENDED = (OSError, IndexError, ValueError)
"""What reading the files of a process in ``/proc`` may raise if it has just ended."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds used so far, and bytes of memory used now."""

    cpu: float
    memory: int


def group_usage(groups: set[int]) -> Usage:
    """The use of all processes in these groups (proc(5): stat and statm). File-backed shared pages don't count."""
    cpu, memory = 0.0, 0
    for process, stat in _processes(groups):
        with contextlib.suppress(*_ENDED):
            cpu += (int(stat[11]) + int(stat[12])) / _TICK
            pages = (process / "statm").read_text().split()
            memory += (int(pages[1]) - int(pages[2])) * _PAGE
    return Usage(cpu, memory)


def proportional_memory(groups: set[int]) -> int:
    """Bytes used by all processes in these groups, shared pages counted once (smaps_rollup's Pss): exact but slower."""
    total = 0
    for process, _ in _processes(groups):
        with contextlib.suppress(*_ENDED):
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
    return total


def _processes(groups: set[int]) -> Iterator[tuple[Path, list[str]]]:
    """The processes in these groups: their folders in ``/proc``, and their :func:`process_stat`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(*_ENDED):
                stat = process_stat(int(folder.name))
                if int(stat[2]) in groups:
                    yield folder, stat


class Telemetry:
    """Takes samples on one node: CPU in cores (1.0 is one busy core), memory in bytes, each GPU.

    Parameters
    ----------
    gpus
        the run's GPUs on this node, as named in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, gpus: tuple[str, ...]) -> None:
        self._last: tuple[float, float] | None = None
        self.peak_memory = 0
        self._nvml: Any = open_nvml() if gpus else None
        handles = [(gpu, nvml_handle(self._nvml, gpu)) for gpu in gpus] if self._nvml else []
        self._gpus = [(gpu, handle) for gpu, handle in handles if handle is not None]

    def devices(self) -> list[dict[str, Any]]:
        """Name and memory in bytes of each of the run's GPUs."""
        return [
            {
                "gpu": gpu,
                "name": self._query(self._nvml.nvmlDeviceGetName, handle),
                "memory": self._gpu(gpu, handle)["memory_total"],
            }
            for gpu, handle in self._gpus
        ]

    def sample(self, groups: set[int]) -> dict[str, Any]:
        """One sample: ``cpu``, ``memory`` and ``gpus``."""
        used, now = group_usage(groups), monotonic()
        share = None
        if self._last is not None and now > self._last[0]:
            share = round(max(0.0, used.cpu - self._last[1]) / (now - self._last[0]), 3)
        self._last = (now, used.cpu)
        self.peak_memory = max(self.peak_memory, used.memory)
        return {"cpu": share, "memory": used.memory, "gpus": [self._gpu(*gpu) for gpu in self._gpus]}

    def _gpu(self, name: str, handle: Any) -> dict[str, Any]:
        """Percent, bytes, watts and °C; ``None`` where NVML has no value."""
        nvml, query = self._nvml, self._query
        memory = query(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = query(nvml.nvmlDeviceGetUtilizationRates, handle)
        power = query(nvml.nvmlDeviceGetPowerUsage, handle)
        return {
            "gpu": name,
            "utilisation": rates.gpu if rates else None,
            "memory": memory.used if memory else None,
            "memory_total": memory.total if memory else None,
            "power": power / 1000 if power is not None else None,
            "temperature": query(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        }

    def _query(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError:
            return None
