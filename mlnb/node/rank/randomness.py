"""The state of a process's random number generators (Python's, numpy's, torch's) as one value; their seed."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


def get_state(*, devices: bool = True) -> dict[str, Any]:
    """Return the state of all generators that are in use.

    Numpy's is ``None`` if numpy is not imported; the GPUs' are ``None`` if CUDA is not in use, or without ``devices``.
    """
    numpy = sys.modules.get("numpy")
    return {
        "random": random.getstate(),
        "numpy": numpy.random.get_state() if numpy else None,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if devices and torch.cuda.is_initialized() else None,
    }


def set_state(state: dict[str, Any]) -> None:
    """Set the generators to a state from :func:`get_state`; those that are ``None`` there stay as they are."""
    random.setstate(state["random"])
    if state["numpy"] is not None:
        import numpy as np

        np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def seed_all(seed: int) -> None:
    """Seed Python's generator, numpy's if it is imported, and torch's."""
    random.seed(seed)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(seed % 2**32)
    torch.manual_seed(seed)


def loader_generators(loader: Any) -> list[torch.Generator]:
    """Return the generators that a loader and its sampler own."""
    candidates = [loader.generator, getattr(loader.sampler, "generator", None)]
    return [generator for generator in candidates if generator is not None]
