"""What the run's own processes and GPUs use, sampled by the node program (never the whole machine's load)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from mlnb.node.machine.gpus import nvml_handle, open_nvml

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """CPU seconds used so far and bytes held now."""

    cpu: float
    memory: int


def group_usage(groups: set[int]) -> Usage:
    """What the processes of these groups use (proc(5): stat and statm; pages shared through files don't count)."""
    cpu, memory = 0.0, 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) not in groups:
                continue
            cpu += (int(fields[11]) + int(fields[12])) / _TICK
            pages = (entry / "statm").read_text().split()
            memory += (int(pages[1]) - int(pages[2])) * _PAGE
        except (OSError, IndexError, ValueError):  # it ended meanwhile
            continue
    return Usage(cpu, memory)


def proportional_memory(groups: set[int]) -> int:
    """Bytes that these groups hold, shared pages counted once (smaps_rollup's Pss): exact, and slower."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) not in groups:
                continue
            for line in (entry / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
        except (OSError, IndexError, ValueError):
            continue
    return total


class Telemetry:
    """Samples of one node: CPU as a share of one core (1.0 is one core busy), memory in bytes, GPUs one by one.

    Parameters
    ----------
    gpus
        the GPUs of this run, as CUDA_VISIBLE_DEVICES names them.
    """

    def __init__(self, gpus: tuple[str, ...]) -> None:
        self._last: tuple[float, float] | None = None
        self.peak_memory = 0
        self._nvml: Any = open_nvml() if gpus else None
        found = [(gpu, nvml_handle(self._nvml, gpu)) for gpu in gpus] if self._nvml else []
        self._gpus = [(gpu, known) for gpu, known in found if known is not None]

    def devices(self) -> list[dict[str, Any]]:
        """The run's GPUs by name and memory in bytes."""
        return [
            {
                "gpu": gpu,
                "name": self._ask(self._nvml.nvmlDeviceGetName, known),
                "memory": self._gpu(gpu, known)["memory_total"],
            }
            for gpu, known in self._gpus
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

    def _gpu(self, name: str, known: Any) -> dict[str, Any]:
        """Utilisation in percent, memory in bytes, power in watts, temperature in °C; what NVML lacks is null."""
        nvml, ask = self._nvml, self._ask
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, known)
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, known)
        power = ask(nvml.nvmlDeviceGetPowerUsage, known)
        return {
            "gpu": name,
            "utilisation": rates.gpu if rates else None,
            "memory": memory.used if memory else None,
            "memory_total": memory.total if memory else None,
            "power": power / 1000 if power is not None else None,
            "temperature": ask(nvml.nvmlDeviceGetTemperature, known, nvml.NVML_TEMPERATURE_GPU),
        }

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None
