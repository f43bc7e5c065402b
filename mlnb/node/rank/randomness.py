"""The random number generators of a process as one value: Python's, numpy's and torch's."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


def take(*, devices: bool = True) -> dict[str, Any]:
    """The generators' states; numpy's and the GPUs' only where they are in use, the GPUs' only with ``devices``."""
    numpy = sys.modules.get("numpy")
    return {
        "random": random.getstate(),
        "numpy": numpy.random.get_state() if numpy else None,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if devices and torch.cuda.is_initialized() else None,
    }


def give(state: dict[str, Any]) -> None:
    """Set the generators to what :func:`take` returned; those that it left out stay as they are."""
    random.setstate(state["random"])
    if state["numpy"] is not None:
        import numpy as np

        np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def of_loader(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its sampler have of their own."""
    found = [loader.generator, getattr(loader.sampler, "generator", None)]
    return [generator for generator in found if generator is not None]
