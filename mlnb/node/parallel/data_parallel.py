"""Data parallel training of a plain loop: N ranks give the curve of one process with N times the batch size.

The code of the loop does not change. The loader that is iterated with gradients enabled is sharded, gradients are
averaged before ``backward()`` returns, what is read of a loss is its mean, and all ranks start with rank 0's weights.
Code that has made a process group by its first loop over a loader, or its first backward, distributes its training
itself: it is not touched.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_post_hook

from mlnb.node import torch_private
from mlnb.node.parallel.agreement import Agreement
from mlnb.node.parallel.gradients.backward import Backward
from mlnb.node.parallel.gradients.gradient_average import GradientAverager
from mlnb.node.parallel.sharded_loaders import ShardedLoaders
from mlnb.node.parallel.together import plateau, rank_group
from mlnb.node.parallel.together.batch_norm import BatchNorm
from mlnb.node.parallel.together.functional_weights import FunctionalWeights
from mlnb.node.parallel.together.loss_reads import LossReads
from mlnb.node.parallel.together.rank_group import Progress, RankGroup
from mlnb.node.rank.loss_names import own_frame
from mlnb.node.rank.patches import Patches
from mlnb.node.rank.training_hooks import TrainingHooks


class DataParallel:
    """Makes a plain loop of this rank a part of one distributed training.

    Parameters
    ----------
    rank, world
        which rank this is, of how many.
    modules
        returns the modules whose parameters and buffers start with rank 0's values.
    hooks
        log this rank's training; get the weight of each loss.
    add_note
        adds a note to the run's result.
    describe
        names the line that a frame executes.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        modules: Callable[[], Iterable[torch.nn.Module]],
        hooks: TrainingHooks,
        add_note: Callable[[str], None],
        describe: Callable[[FrameType], str],
    ) -> None:
        self._rank, self._world, self._modules, self._hooks, self._add_note = rank, world, modules, hooks, add_note
        self._describe = describe
        self._progress = Progress()
        self._averager = GradientAverager()
        self._reads = LossReads(lambda: self._hooks.weight)
        self._backward = Backward(
            self._averager, self._reads, self._prepare_backward, lambda: self._hooks.weight, add_note
        )
        self._batch_norm = BatchNorm(
            lambda: self._hooks.weight, lambda: self._loaders.has_sharded, lambda: self._backward.is_inside
        )
        self._functional = FunctionalWeights(lambda: self._loaders.is_sharding)
        self._agreement: Agreement | None = None
        self._joining = threading.Lock()
        self._unsynchronized: list[torch.Tensor] = []  # parameters that do not have rank 0's values yet
        self._patches = Patches()
        self._has_left = False
        self._on_leave: list[Callable[[], None]] = []
        self._on_end: list[Callable[[], None]] = []
        self._on_finish: list[Callable[[], None]] = []
        self._loaders = ShardedLoaders(
            rank,
            world,
            is_plain=self._is_plain,
            synchronize=self._begin_loop,
            begin_batch=self._begin_batch,
            end_batches=self._end_batches,
            backwards=lambda: self._backward.count,
            describe=describe,
            add_note=add_note,
        )

    def install(self) -> None:
        """Wrap autograd, optimizers, loaders, and what reads values of tensors."""
        torch_private.require(torch_private.Feature.PARALLEL)
        self._wrap_optimizers()
        self._backward.install(self._patches)
        self._loaders.install(self._patches)
        self._reads.install(self._patches)
        self._batch_norm.install(self._patches)
        self._functional.install(self._patches)
        plateau.install(self._patches)
        if self._agreement is not None:
            rank_group.current = self._agreement.group

    def on_leave(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the code turns out to distribute itself."""
        self._on_leave.append(call)

    def on_end(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the program has ended here, before the other ranks are waited for."""
        self._on_end.append(call)

    def on_finish(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the program has ended without an error."""
        self._on_finish.append(call)

    def meetings(self) -> int:
        """How many collectives this rank has begun."""
        return self._progress.meetings

    def uninstall(self) -> None:
        """Restore torch: what is trained from now on is not distributed."""
        self._patches.undo()
        rank_group.current = None

    def finish(self) -> None:
        """At the end of the program: wait for the other ranks, then restore torch."""
        for call in self._on_end:
            call()
        if self._is_plain():
            if self._agreement is None:
                rank_group.end_without_group(self._rank, self._world)
            else:
                self._agreement.group.end()
                self._agreement.compare()
            self._reads.write_means()
        if self._batch_norm.has_any:
            self._add_note(
                "batch norm normalises the whole batch, as in one process: the ranks communicate in each such layer"
            )
        if self._batch_norm.is_compiled:
            self._add_note(
                "torch.jit has compiled batch norm: in training it normalises each rank's own part of a batch; one "
                "process would normalise the whole batch"
            )
        self.uninstall()
        for call in self._on_finish:
            call()

    def _is_plain(self) -> bool:
        """Whether nobody else distributes the training: code that does has made a process group."""
        if not self._has_left and dist.is_initialized():
            self._has_left = True
            self._reads.group = rank_group.current = None
            self._hooks.weight = 1.0
            for call in self._on_leave:
                call()
            self._add_note("the code has made a process group of its own: mlnb shards no data, averages no gradients")
        return not self._has_left

    # Optimizers: their parameters' gradients are averaged

    def _wrap_optimizers(self) -> None:
        def register_after(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(optimizer, *args, **kwargs)
                if not self._has_left:
                    self._register(optimizer)
                return result

            return call

        for name in ("__init__", "__setstate__", "add_param_group"):
            self._patches.wrap(torch.optim.Optimizer, name, register_after)
        self._patches.on_undo(register_optimizer_step_post_hook(self._after_step).remove)

    def _register(self, optimizer: torch.optim.Optimizer) -> None:
        for group in getattr(optimizer, "param_groups", ()):
            self._unsynchronized += [parameter for parameter in group["params"] if self._averager.add(parameter)]

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._progress.steps += 1
        rate = optimizer.param_groups[-1].get("lr", 0.0)
        if not isinstance(rate, torch.Tensor):  # reading it could wait for a device
            self._progress.rate = float(rate)

    # The group: joined at the first sharded loop, or the first backward

    def _synchronize(self) -> Agreement:
        """Join the other ranks, once; give new parameters and, once, all of the models rank 0's values."""
        with self._joining:  # threads may come here at once
            agreement = self._agreement or self._join()
        tensors, self._unsynchronized = self._unsynchronized, []
        agreement.begin_with(tensors)
        return agreement

    def _join(self) -> Agreement:
        self._progress.meetings += 1
        group = RankGroup(self._rank, self._world, self._describe, self._progress, self._add_note)
        self._agreement = Agreement(group, self._averager, self._functional, self._add_note)
        self._averager.group = rank_group.current = group
        for module in self._modules():
            self._unsynchronized += [*module.parameters(), *module.buffers()]
            for parameter in module.parameters():
                self._averager.add(parameter)
        return self._agreement

    def _begin_loop(self) -> None:
        agreement = self._synchronize()
        agreement.compare()
        self._reads.group = agreement.group
        self._averager.begin_loop(sys._getframe(1))

    def _begin_batch(self, batch: Any, weight: float) -> None:
        """Begin a batch of this rank, whose mean loss has ``weight`` in that of all ranks."""
        if self._agreement is not None:
            self._agreement.begin_batch()
        self._hooks.weight = weight
        self._progress.batches += 1
        self._averager.begin_batch(batch)

    def _end_batches(self, weight: float) -> None:
        self._hooks.weight = weight

    def _prepare_backward(self) -> bool:
        """Whether the gradients of the next backward are averaged."""
        if not self._is_plain():
            return False
        if self._agreement is None or self._unsynchronized:
            self._synchronize()
        if not self._backward.count:
            self._add_note(f"{self._world} ranks: gradients averaged, {self._which_data()}")
        self._note_whole_batches()
        if self._agreement is not None:
            self._agreement.compare_if_due("backward()")
        return True

    def _which_data(self) -> str:
        if self._loaders.is_sharding or (self._loaders.has_sharded and not self._loaders.reason_for_whole_batches()):
            return f"train loader sharded, global batch {self._world} × {self._loaders.batch_size}"
        return "every rank trains on the same data (no DataLoader was iterated with gradients enabled)"

    def _note_whole_batches(self) -> None:
        """Tell if a backward is in a loop over a loader that is not sharded."""
        if self._loaders.is_sharding or not (reason := self._loaders.reason_for_whole_batches()):
            return
        frame = own_frame(sys._getframe(1))
        line = self._describe(frame) if frame is not None else "a library"
        self._add_note(
            f"backward() in {line} trains in a loop over a loader that is not sharded, since {reason}: every rank "
            "trains on the same batches, and the curve is that of one process with this batch size"
        )
