"""``mlnb.epochs``: a loop over epochs that makes checkpoints and resumes from them."""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import torch
import torch.distributed as dist

from mlnb.node import torch_private
from mlnb.node.checkpoint import files as checkpoint_files
from mlnb.node.checkpoint import names
from mlnb.node.checkpoint.loader_positions import LoaderPositions
from mlnb.node.checkpoint.variables import Variables
from mlnb.node.data import inputs
from mlnb.node.parallel.together import rank_group
from mlnb.node.rank import log, randomness
from mlnb.node.rank.stop import exit_now, expect_checkpoint, stop_requested, writing_checkpoint
from mlnb.node.torch_private import Feature

_has_loop = False
"""Whether this rank has begun its first loop over epochs."""


def epochs(count: int, *, minutes: float = math.inf, **state: Any) -> Iterator[int]:
    """Iterate over epochs 0 … ``count`` - 1, with a checkpoint at the end of each and when the run has to end.

    Parameters
    ----------
    count
        number of epochs, including those of earlier attempts.
    minutes
        after which a checkpoint is also made within an epoch, for machines that may fail without a warning.
    state
        what a checkpoint contains, by name: objects with ``state_dict`` and ``load_state_dict`` (model, optimizer,
        scheduler, scaler), and random number generators that loaders own.

    Yields
    ------
    int
        the epoch. A resumed run starts after its newest checkpoint, with the state, the step and the random number
        generators as they were then. If the checkpoint has ``count`` epochs already, none is left, and a warning says
        so.

    Raises
    ------
    TypeError
        if something in ``state`` can't be saved and loaded.
    ValueError
        if ``minutes`` is not above 0.

    Notes
    -----
    When it receives SIGTERM, or SIGUSR1 as a warning, the run makes a checkpoint after the current batch, the same one
    on all ranks, and ends. It resumes in the middle of that epoch: the epoch's code runs again from its first line, and
    its training loader yields only the batches that have not been trained on. So weights and curve are those of a run
    that was not interrupted.

    The variables that the loop changes, of the script and of the functions that it runs in, have their values again,
    too: lists of losses, best values, sums over the epoch. Only counts that no variable holds start again, as that of
    ``enumerate`` in a resumed epoch. A warning names variables that can't be in a checkpoint.

    This needs a ``DataLoader`` that is iterated with gradients enabled, and whose batches lead to optimizer steps one
    at a time. (Code that draws the next batch before it trains on the current one has checkpoints at the ends of epochs
    only.) Loaders that are iterated inside of another's loop, or zipped with it, also resume after their last batch. A
    second training loop in the same epoch has no checkpoints. Loops that don't train (validation) are repeated if they
    come before the training loop. Batches that are done are skipped without being loaded; an ``IterableDataset`` is
    iterated up to the next one. Random numbers drawn in a loader's worker processes, as for augmentation, differ after
    a resume.

    A run's checkpoints are those of one loop: the first. When the run resumes, the epochs that this loop has done are
    skipped and its state is loaded. Later loops run from their beginning, and a warning says so.

    If no batch ends within half the grace period after SIGTERM, or at SIGKILL, there is no new checkpoint: the run
    resumes from the newest one. Outside a run this is ``range(count)``.
    """
    for name, value in state.items():
        if not isinstance(value, torch.Generator) and not hasattr(value, "load_state_dict"):
            raise TypeError(f"mlnb.epochs({name}=…): a {type(value).__name__} has no state_dict and load_state_dict")
    if not minutes > 0:
        raise ValueError(f"mlnb.epochs(minutes={minutes}): must be above 0")
    folder = os.environ.get("MLNB_CHECKPOINTS")
    if folder is None:
        yield from range(count)
        return
    global _has_loop
    if _has_loop:
        warnings.warn("only a run's first loop over mlnb.epochs makes checkpoints; this is a later one", stacklevel=2)
        yield from range(count)
        return
    _has_loop = True
    rank, world = int(os.environ.get("MLNB_RANK", "0")), int(os.environ.get("MLNB_WORLD_SIZE", "1"))
    torch_private.require(Feature.CHECKPOINTS if world == 1 else Feature.STOP_CONSENSUS)
    save = functools.partial(_save, Path(folder), rank, state)
    variables = None if inputs.current is None else Variables(inputs.current, state, sys._getframe())
    start, own = _resume(state, rank)
    resumed = own if "within" in own else None
    at_start: dict[str, Any] | None = own.get("variables")
    if variables is not None and at_start is not None:
        variables.restore(at_start, sys._getframe())
    if start >= count > 0:
        warnings.warn(f"the checkpoint has {start} epochs, and mlnb.epochs({count}) no more: none is run", stacklevel=2)
    epoch_seconds = 0.0
    log.current.log_epochs(count)
    log.current.log_progress(start / count if count else 1.0)
    for epoch in range(start, count):
        began = monotonic()
        expect_checkpoint(began + epoch_seconds if epoch_seconds else 0.0)

        def save_within(
            batch: int, own: dict[str, Any], epoch: int = epoch, at_start: dict[str, Any] | None = at_start
        ) -> None:
            save(epoch, batch, {**own, "variables": at_start})

        with LoaderPositions(str(epoch), world, save_within, resumed, 60 * minutes, variables).tracking():
            yield epoch
        epoch_seconds, resumed = monotonic() - began, None
        log.current.log_progress((epoch + 1) / count)
        at_start = None if variables is None else variables.save(sys._getframe())
        save(epoch + 1, 0, {"randomness": randomness.get_state(), "variables": at_start})
    expect_checkpoint(0.0)


def _save(folder: Path, rank: int, state: dict[str, Any], epoch: int, batch: int, own: dict[str, Any]) -> None:
    """Make a checkpoint after ``epoch`` epochs and ``batch`` batches; then exit if any rank has to stop."""
    log.current.flush()  # the curve on disk must reach the checkpoint, or a resumed run would have a gap
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
    """Load a checkpoint's states into the objects of ``state``, by name; objects that it lacks stay as they are."""
    for name, value in state.items():
        if name not in saved["state"]:
            continue
        if isinstance(value, torch.Generator):
            value.set_state(saved["state"][name])
        else:
            value.load_state_dict(saved["state"][name])


def _resume(state: dict[str, Any], rank: int) -> tuple[int, dict[str, Any]]:
    """Load the checkpoint from which this attempt resumes, if there is one.

    Node 0 has chosen it for all ranks before they started: what a faster rank has saved since is not for the others.

    Returns
    -------
    tuple
        the number of complete epochs, and this rank's own part of the checkpoint; 0 and nothing without one.
    """
    chosen = os.environ.get(names.RESUME)
    if not chosen:
        return 0, {}
    checkpoint = Path(os.environ["MLNB_RUN"]) / chosen
    saved = checkpoint_files.load(checkpoint)
    restore(saved, state)
    path = names.rank_file(checkpoint, rank)
    own = checkpoint_files.load(path) if path.exists() else saved
    randomness.set_state(own["randomness"])
    log.current.resume(saved["step"], saved["time"])
    return int(saved["epoch"]), own


def _any_stop_requested() -> bool:
    """Whether any rank has to stop: then all stop after the same checkpoint."""
    group = rank_group.current
    if group is not None:
        return group.any_of(stop_requested(), group.call_site("the checkpoint of mlnb.epochs", None))
    if not dist.is_available() or not dist.is_initialized():
        return stop_requested()
    flag = torch.tensor([float(stop_requested())], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
