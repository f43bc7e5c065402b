"""``for epoch in mlnb.epochs(90, model=model, optimizer=optimizer):`` - checkpoints, and goes on from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import torch
import torch.distributed as dist

from mlnb.node import checkpoint, log, randomness
from mlnb.node.stop import asked, expect_checkpoint, honour


def epochs(count: int, **state: Any) -> Iterator[int]:
    """Iterate over epochs 0 … ``count`` - 1, with a checkpoint at the end of each.

    Parameters
    ----------
    count
        epochs in all, those of earlier attempts included.
    state
        what a checkpoint holds: objects with ``state_dict`` and ``load_state_dict`` (model, optimizer, scheduler,
        scaler) and generators of random numbers that loaders have of their own, by name.

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
        if not isinstance(value, torch.Generator) and not hasattr(value, "load_state_dict"):
            raise TypeError(f"mlnb.epochs({name}=…): a {type(value).__name__} has no state_dict and load_state_dict")
    folder = os.environ.get("MLNB_CHECKPOINTS")
    if folder is None:
        yield from range(count)
        return
    rank = int(os.environ.get("RANK", "0"))
    start = _resume(Path(folder), state, rank)
    took = 0.0
    log.current.progress(start / count if count else 1.0)
    for epoch in range(start, count):
        began = monotonic()
        expect_checkpoint(began + took if took else 0.0)
        yield epoch
        took = monotonic() - began
        log.current.progress((epoch + 1) / count)
        if rank == 0:
            checkpoint.save(Path(folder), epoch + 1, _gather(epoch + 1, state))
        else:
            checkpoint.save_rank(Path(folder), epoch + 1, rank, randomness.take())
        if _any_asked():
            honour()
    expect_checkpoint(0.0)


def _gather(epoch: int, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": log.current.step,
        "time": time(),
        "state": {name: _state_of(value) for name, value in state.items()},
        "randomness": randomness.take(),
    }


def _state_of(value: Any) -> Any:
    return value.get_state() if isinstance(value, torch.Generator) else value.state_dict()


def restore(saved: dict[str, Any], state: dict[str, Any]) -> None:
    """Put a checkpoint's states into the objects of ``state``, by name; those that it lacks stay as they are."""
    for name, value in state.items():
        if name not in saved["state"]:
            continue
        if isinstance(value, torch.Generator):
            value.set_state(saved["state"][name])
        else:
            value.load_state_dict(saved["state"][name])


def _resume(folder: Path, state: dict[str, Any], rank: int) -> int:
    found = checkpoint.checkpoints(folder) or checkpoint.checkpoints(Path(os.environ.get("MLNB_RESUME", "")))
    if not found:
        return 0
    saved = checkpoint.load(found[-1])
    restore(saved, state)
    own = checkpoint.rank_file(found[-1], rank)
    randomness.give(checkpoint.load(own) if own.exists() else saved["randomness"])
    log.current.resume(saved["step"], saved["time"])
    return int(saved["epoch"])


def _any_asked() -> bool:
    """Whether any rank was told to end: then all leave behind the same checkpoint."""
    if not dist.is_available() or not dist.is_initialized():
        return asked()
    flag = torch.tensor([float(asked())], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
