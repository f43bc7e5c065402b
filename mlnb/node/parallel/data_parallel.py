"""Data parallel training of a plain loop: N ranks give the curve of one process with N times the batch size.

The code of the loop does not change. The loader that is iterated with gradients enabled is sharded, gradients are
averaged before ``backward()`` returns, and all ranks start with rank 0's weights. Code that distributes its training
itself is not touched.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mlnb.node import torch_private
from mlnb.node.parallel.gradient_average import GradientAverager
from mlnb.node.parallel.sharded_loaders import ShardedLoaders
from mlnb.node.rank.patches import Patches
from mlnb.node.rank.training_hooks import TrainingHooks

_PACKAGES = frozenset(
    [
        "accelerate",
        "colossalai",
        "composer",
        "deepspeed",
        "fairscale",
        "horovod",
        "lightning",
        "pytorch_lightning",
        "ray",
    ]
)
_NAMES = frozenset(
    [
        "DistributedDataParallel",
        "DistributedSampler",
        "FullyShardedDataParallel",
        "Trainer",
        "distribute_module",
        "fully_shard",
        "init_device_mesh",
        "init_process_group",
        "replicate",
    ]
)
_TIMEOUT = timedelta(minutes=10)


def distributes_itself(source: str | bytes) -> str | None:
    """Return the name in ``source`` that shows that it distributes its training itself; ``None`` if there is none.

    Source that isn't Python does nothing: a local package may hold such files, as templates.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old code
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Name):
            names = [node.id]
        else:
            continue
        for name in names:
            if name.split(".")[0] in _PACKAGES or name in _NAMES:
                return name
    return None


class DataParallel:
    """Makes a plain loop of this rank a part of one distributed training.

    Parameters
    ----------
    rank, world
        as torchrun counts them (``RANK``, ``WORLD_SIZE``).
    modules
        returns the modules whose buffers start with rank 0's values.
    hooks
        log this rank's training; get the weight of each loss.
    add_note
        adds a note to the run's result.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        modules: Callable[[], Iterable[torch.nn.Module]],
        hooks: TrainingHooks,
        add_note: Callable[[str], None],
    ) -> None:
        self._rank, self._world, self._modules, self._hooks, self._add_note = rank, world, modules, hooks, add_note
        self._averager = GradientAverager()
        self._unsynchronized: list[torch.Tensor] = []  # parameters that do not have rank 0's values yet
        self._joined = False
        self._backwards = 0
        self._patches = Patches()
        self._is_joining = False
        self._has_left = False
        self._on_leave: list[Callable[[], None]] = []
        self._loaders = ShardedLoaders(
            rank,
            world,
            hooks=hooks,
            synchronize=self._synchronize,
            backwards=lambda: self._backwards,
            add_note=add_note,
        )

    def install(self) -> None:
        """Wrap ``Tensor.backward``, optimizers and loaders."""
        torch_private.require(torch_private.Feature.PARALLEL)
        self._watch_other_distribution()
        self._wrap_optimizers()
        self._patches.wrap(torch.Tensor, "backward", self._wrap_backward)
        self._loaders.install(self._patches)

    def on_leave(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the code turns out to distribute itself."""
        self._on_leave.append(call)

    def uninstall(self) -> None:
        """Restore torch: what is trained from now on is not distributed."""
        self._patches.undo()

    # Code that distributes its training itself, as a library's that no name in the script shows

    def _watch_other_distribution(self) -> None:
        """Leave the training to code that creates a process group or wraps a model with DistributedDataParallel."""

        def watched(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if not self._is_joining and not self._has_left:
                    self._leave(getattr(original, "__qualname__", "").removesuffix(".__init__"))
                return original(*args, **kwargs)

            return call

        for module in (dist, dist.distributed_c10d):
            self._patches.wrap(module, "init_process_group", watched)
        self._patches.wrap(torch.nn.parallel.DistributedDataParallel, "__init__", watched)

    def _leave(self, api: str) -> None:
        """Do nothing from now on: what others call ``api`` for is theirs."""
        self._has_left = True
        self._averager.stop()
        self._loaders.stop()
        for call in self._on_leave:
            call()
        self._hooks.weight = 1.0
        if self._joined and dist.is_initialized() and api == "init_process_group":
            dist.destroy_process_group()
        self._add_note(f"{api} was called by code that distributes itself: mlnb shards no data, averages no gradients")

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
        self._patches.on_undo(register_optimizer_step_pre_hook(self._before_step).remove)

    def _register(self, optimizer: torch.optim.Optimizer) -> None:
        for group in getattr(optimizer, "param_groups", ()):
            self._unsynchronized += [parameter for parameter in group["params"] if self._averager.add(parameter)]

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Refuse a first step with gradients that were not averaged, as those of ``torch.autograd.grad``."""
        if self._backwards or self._has_left:
            return
        if any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"]):
            raise RuntimeError(
                f"{self._world} ranks would train {self._world} independent copies: gradients are averaged by "
                "loss.backward(), which was not called. Call it, or pass --parallel none if copies are what you want."
            )

    def _synchronize(self) -> None:
        """Create the process group, once, and broadcast rank 0's values of new parameters and, once, of buffers."""
        if self._joined and not self._unsynchronized:
            return
        if not dist.is_initialized():
            self._is_joining = True
            try:
                dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
            finally:
                self._is_joining = False
        tensors: list[torch.Tensor] = [*self._unsynchronized]
        self._unsynchronized.clear()
        if not self._joined:
            self._joined = True
            tensors += [buffer for module in self._modules() for buffer in module.buffers()]
        with torch.no_grad():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    # Backward: averages the gradients

    def _wrap_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            if self._has_left:
                original(tensor, *args, **kwargs)
                return
            if self._hooks.weight != 1.0:
                args, kwargs = _weighted(self._hooks.weight, tensor, *args, **kwargs)
            self._before_backward()
            original(tensor, *args, **kwargs)
            self._after_backward()

        return backward

    def _before_backward(self) -> None:
        if not len(self._averager):
            raise RuntimeError(
                f"{self._world} ranks would train {self._world} independent copies: there is no torch.optim "
                "optimizer to average gradients for. Use one, or pass --parallel none if copies are what you want."
            )
        self._synchronize()
        self._averager.begin()

    def _after_backward(self) -> None:
        self._averager.finish()
        if not self._backwards:
            data = (
                f"train loader sharded, global batch {self._world} × {self._loaders.batch_size}"
                if self._loaders.has_sharded
                else "every rank trains on the same data (no DataLoader was iterated with gradients enabled)"
            )
            self._add_note(f"{self._world} ranks: gradients averaged, {data}")
        self._backwards += 1


def _weighted(
    weight: float, tensor: torch.Tensor, gradient: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of ``backward`` that multiply the gradients of a loss by ``weight``."""
    gradient = torch.ones_like(tensor) if gradient is None else gradient
    return (gradient * weight, *args), kwargs
