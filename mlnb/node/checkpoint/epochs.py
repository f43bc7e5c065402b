"""``for epoch in mlnb.epochs(90, model=model, optimizer=optimizer):`` - checkpoints, and goes on from them."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import torch
import torch.distributed as dist

from mlnb.node import torch_private
from mlnb.node.checkpoint import files as checkpoint_files
from mlnb.node.checkpoint.loader_positions import Places
from mlnb.node.rank import log, randomness
from mlnb.node.rank.stop import exit_now, expect_checkpoint, stop_requested, writing_checkpoint
from mlnb.node.torch_private import Feature
from mlnb.rundir import RunDir, read_json


def epochs(count: int, *, minutes: float = math.inf, **state: Any) -> Iterator[int]:
    """Iterate over epochs 0 … ``count`` - 1, with a checkpoint at the end of each and where the run has to end.

    Parameters
    ----------
    count
        epochs in all, those of earlier attempts included.
    minutes
        after which a checkpoint is made within a long epoch too, for machines that go away without a word.
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
    ValueError
        if ``minutes`` is not above 0.

    Notes
    -----
    Warned that it will have to end (SIGUSR1) or told to end (SIGTERM), the run makes a checkpoint behind the batch it
    trains on, all ranks behind the same one, and ends. What resumes from it is in the middle of an epoch: the epoch's
    code runs again from its first line, and its training loader yields the batches that had not been trained on, so
    that weights and curve are those of a run that was not interrupted. Values that the code itself keeps start anew:
    sums over the epoch, and what ``enumerate`` counts.

    That takes a ``DataLoader`` that is iterated with gradients on, whose batches lead to steps of an optimizer, one at
    a time (code that draws the next batch before it trains on this one has checkpoints at ends of epochs only). Of
    loaders within the loop of another, zipped with it say, the places are kept as well; a second training loop in the
    same epoch has no checkpoints within. Loops that don't train (validation) run whole again if they come first.
    Batches behind are skipped without being loaded; an ``IterableDataset`` is iterated up to there. Random numbers
    that are drawn in a loader's worker processes, for augmentation say, are others after a resume.

    Where no such place comes within half the grace that SIGTERM leaves, and at SIGKILL, the newest checkpoint stays.
    Outside a run this is ``range(count)``.
    """
    for name, value in state.items():
        if not isinstance(value, torch.Generator) and not hasattr(value, "load_state_dict"):
            raise TypeError(f"mlnb.epochs({name}=…): a {type(value).__name__} has no state_dict and load_state_dict")
    if not minutes > 0:
        raise ValueError(f"mlnb.epochs(minutes={minutes}): a number above 0")
    folder = os.environ.get("MLNB_CHECKPOINTS")
    if folder is None:
        yield from range(count)
        return
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch_private.require(Feature.CHECKPOINTS if world == 1 else Feature.STOP_CONSENSUS)
    save = functools.partial(_save, Path(folder), rank, state)
    start, within = _resume(Path(folder), state, rank)
    took = 0.0
    log.current.log_progress(start / count if count else 1.0)
    for epoch in range(start, count):
        began = monotonic()
        expect_checkpoint(began + took if took else 0.0)
        with Places(str(epoch), world, functools.partial(save, epoch), within, 60 * minutes).followed():
            yield epoch
        took, within = monotonic() - began, None
        log.current.log_progress((epoch + 1) / count)
        save(epoch + 1, 0, {"randomness": randomness.get_state()})
    expect_checkpoint(0.0)


def _save(folder: Path, rank: int, state: dict[str, Any], epoch: int, batch: int, own: dict[str, Any]) -> None:
    """Make a checkpoint after ``epoch`` epochs and ``batch`` batches, and end behind it if a rank was asked to."""
    log.current.flush()  # a checkpoint whose curve ends in front of it would leave a gap
    with writing_checkpoint():
        if rank == 0:
            checkpoint_files.save(folder, epoch, {**_gather(epoch, state), **own}, batch)
        else:
            checkpoint_files.save_rank(folder, epoch, rank, own, batch)
    if _any_stop_requested():
        exit_now()


def _gather(epoch: int, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": log.current.step,
        "time": time(),
        "state": {name: _state_of(value) for name, value in state.items()},
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


def _resume(folder: Path, state: dict[str, Any], rank: int) -> tuple[int, dict[str, Any] | None]:
    """Go on from the run's newest checkpoint, or that of the run that it resumes with other code, if there is one.

    Returns
    -------
    tuple
        the epochs behind it, and what it holds of the epoch that it was made in, if it was in the middle of one.
    """
    found = checkpoint_files.checkpoints(folder)
    other = (read_json(RunDir(os.environ["MLNB_RUN"]).run) or {}).get("resume")
    if not found and other:
        found = checkpoint_files.checkpoints(Path(os.environ["MLNB_RUN"]) / other)
    if not found:
        return 0, None
    saved = checkpoint_files.load(found[-1])
    restore(saved, state)
    path = checkpoint_files.rank_file(found[-1], rank)
    own = checkpoint_files.load(path) if path.exists() else saved
    randomness.set_state(own["randomness"])
    log.current.resume(saved["step"], saved["time"])
    return int(saved["epoch"]), own if "within" in own else None


def _any_stop_requested() -> bool:
    """Whether any rank was told to end: then all leave behind the same checkpoint."""
    if not dist.is_available() or not dist.is_initialized():
        return stop_requested()
    flag = torch.tensor([float(stop_requested())], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
