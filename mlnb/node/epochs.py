"""``for epoch in mlnb.epochs(90, model=model, optimizer=optimizer):`` - checkpoints, and goes on from them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import torch

from mlnb.node import checkpoint, log
from mlnb.node.stop import asked, expect_checkpoint, honour


def epochs(count: int, **state: Any) -> Iterator[int]:
    """Iterate over epochs 0 … ``count`` - 1, with a checkpoint at the end of each.

    Parameters
    ----------
    count
        epochs in all, those of earlier attempts included.
    state
        what a checkpoint holds: objects with ``state_dict`` and ``load_state_dict`` (model, optimizer, scheduler,
        scaler) by name.

    Yields
    ------
    int
        the epoch. A run that resumes starts behind its newest checkpoint, with the state, the step and the random
        number generators as they were then.

    Raises
    ------
    TypeError
        if something in ``state`` can't be saved and loaded.

    Notes
    -----
    Warned that it will have to end (SIGUSR1), the run ends behind the next checkpoint; told to end (SIGTERM), it
    does so only if that checkpoint is near. The newest one stays in any case. Outside a run this is
    ``range(count)``.
    """
    for name, value in state.items():
        if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
            raise TypeError(f"mlnb.epochs({name}=…): a {type(value).__name__} has no state_dict and load_state_dict")
    folder = os.environ.get("MLNB_CHECKPOINTS")
    if folder is None:
        yield from range(count)
        return
    start = _resume(Path(folder), state)
    took = 0.0
    log.current.progress(start / count if count else 1.0)
    for epoch in range(start, count):
        began = monotonic()
        expect_checkpoint(began + took if took else 0.0)
        yield epoch
        took = monotonic() - began
        log.current.progress((epoch + 1) / count)
        if os.environ.get("RANK", "0") == "0":
            checkpoint.save(Path(folder), epoch + 1, _gather(epoch + 1, state))
        if asked():
            honour()
    expect_checkpoint(0.0)


def _gather(epoch: int, state: dict[str, Any]) -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    return {
        "epoch": epoch,
        "step": log.current.step,
        "time": time(),
        "state": {name: value.state_dict() for name, value in state.items()},
        "random": random.getstate(),
        "numpy": numpy.random.get_state() if numpy else None,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
    }


def _resume(folder: Path, state: dict[str, Any]) -> int:
    found = checkpoint.checkpoints(folder) or checkpoint.checkpoints(Path(os.environ.get("MLNB_RESUME", "")))
    if not found:
        return 0
    saved = checkpoint.load(found[-1])
    for name, value in state.items():
        if name in saved["state"]:
            value.load_state_dict(saved["state"][name])
    random.setstate(saved["random"])
    if saved["numpy"] is not None:
        import numpy as np

        np.random.set_state(saved["numpy"])
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(saved["cuda"])
    log.current.resume(saved["step"], saved["time"])
    return int(saved["epoch"])
