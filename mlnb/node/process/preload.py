"""Import once what all ranks of a node need, before they are forked from it.

The garbage collector is off meanwhile: nothing of what it would look through can go, and looking takes a tenth of the
time of ``import torch``. What stands then is frozen, so that a rank's own collections don't walk through all of torch,
which would copy its pages too. (Both as the documentation of ``gc.freeze`` advises for programs that fork.)
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterable

RANK_MODULES = ("torch", "mlnb.node.rank_program", "mlnb.node.rank.training_hooks")
"""What a rank imports before it comes to the script."""

ALL_MODULES = (
    "numpy",
    "torch",
    "torch.distributed",
    "torch.utils.data",
    "torch._dynamo",  # the first optimizer of a process imports it, which takes as long as torch itself
    "mlnb.node.program",
    "mlnb.node.data.outputs",
    *RANK_MODULES,
)
"""What any rank might import: for a process that forks many, and has the time."""


def preload(names: Iterable[str]) -> str | None:
    """Import modules; the first that can't be imported, and why, as one line, or ``None``."""
    broken = None
    gc.disable()
    try:
        for name in names:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - whatever a library raises as it is imported
                said = str(error).strip().splitlines()
                broken = broken or f"{name} can't be imported: {type(error).__name__}: {said[-1] if said else ''}"
    finally:
        gc.enable()
        gc.freeze()
    return broken
