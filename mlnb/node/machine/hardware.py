"""Describe a node's hardware and software, so that a curve can be traced to them a year later."""

from __future__ import annotations

import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def describe(gpus: list[dict[str, Any]]) -> dict[str, Any]:
    """Processor, memory, GPUs, Python, torch and all installed packages of this machine, as JSON values."""
    torch = sys.modules.get("torch")
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": gpus,
        "python": platform.python_version(),
        "torch": getattr(torch, "__version__", None),
        "cuda": getattr(getattr(torch, "version", None), "cuda", None),
        "packages": packages(),
    }


@functools.lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """Installed packages by name, with their versions. Cached: a fork server reads them before it forks."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name not in versions:  # the first on the path is the one that is imported
            versions[name] = distribution.version
    return dict(sorted(versions.items()))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
