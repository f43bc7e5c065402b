"""Import the modules that all ranks of a node need once, before the ranks are forked.

The garbage collector is off during the imports: it would free nothing, and takes a tenth of the time of
``import torch``. Afterwards all objects are frozen. A rank's own collections then skip torch's objects, and don't copy
their pages. (The documentation of ``gc.freeze`` advises both for programs that fork.)
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterable

RANK_MODULES = ("torch", "mlnb.node.rank_program", "mlnb.node.rank.training_hooks")
"""Modules that every rank imports before it runs the script."""

ALL_MODULES = (
    "numpy",
    "torch",
    "torch.distributed",
    "torch.utils.data",
    "torch._dynamo",  # imported by a process's first optimizer, and as slow as torch itself
    "mlnb.node.program",
    "mlnb.node.data.outputs",
    *RANK_MODULES,
)
"""Modules that some rank may import: for a fork server, which has the time to load them all."""


def preload(names: Iterable[str]) -> str | None:
    """Import modules by name. Returns one line about the first that can't be imported, or ``None``."""
    broken = None
    gc.disable()
    try:
        for name in names:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - libraries raise anything when imported
                lines = str(error).strip().splitlines()
                broken = broken or f"{name} can't be imported: {type(error).__name__}: {lines[-1] if lines else ''}"
    finally:
        gc.enable()
        gc.freeze()
    return broken
