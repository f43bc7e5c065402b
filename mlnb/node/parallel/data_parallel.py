"""Data parallel for a plain loop: N ranks give the curve of one process with N times the batch.

Nothing in the code changes. The loader that is iterated with gradients on is sharded, gradients are averaged when
``backward()`` returns, and all ranks start alike. Code that distributes itself is left alone.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from mlnb.node import torch_private
from mlnb.node.parallel.batch_sharding import ShardedBatches, one_in
from mlnb.node.parallel.gradient_average import Averager
from mlnb.node.rank import randomness
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
_SHARD, _SHARDED = "_mlnb_shard", "_mlnb_sharded"


def distributes_itself(source: str) -> str | None:
    """The word by which a script shows that it distributes its training itself, if it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            found = [node.attr]
        elif isinstance(node, ast.Name):
            found = [node.id]
        else:
            continue
        for name in found:
            if name.split(".")[0] in _PACKAGES or name in _NAMES:
                return name
    return None


class DataParallel:
    """What makes a plain loop of this rank a part of one training.

    Parameters
    ----------
    rank, world
        as torchrun counts them.
    modules
        finds the modules whose buffers shall start alike.
    hooks
        log this rank's training; get the weight of each loss.
    say
        takes a line for the person, once each.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        modules: Callable[[], Iterable[torch.nn.Module]],
        hooks: TrainingHooks,
        say: Callable[[str], None],
    ) -> None:
        self._rank, self._world, self._modules, self._hooks, self._say = rank, world, modules, hooks, say
        self._averager = Averager()
        self._fresh: list[torch.Tensor] = []
        self._begun = False
        self._backwards = 0
        self._sharded = 0
        self._batch_size: int | None = None
        self._patches = Patches()

    def install(self) -> None:
        """Wrap ``Tensor.backward``, optimizers and loaders."""
        torch_private.require(torch_private.Feature.PARALLEL)
        self._wrap_optimizers()
        self._patches.wrap(torch.Tensor, "backward", self._backward)
        self._wrap_loaders()

    def uninstall(self) -> None:
        """Leave what trains from now on alone."""
        self._patches.undo()

    # optimizers: whose gradients are averaged

    def _wrap_optimizers(self) -> None:
        def registers(original: Callable[..., Any]) -> Callable[..., Any]:
            def registered(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(optimizer, *args, **kwargs)
                self._register(optimizer)
                return result

            return registered

        for name in ("__init__", "__setstate__", "add_param_group"):
            self._patches.wrap(torch.optim.Optimizer, name, registers)

    def _register(self, optimizer: torch.optim.Optimizer) -> None:
        for group in getattr(optimizer, "param_groups", ()):
            self._fresh += [parameter for parameter in group["params"] if self._averager.add(parameter)]

    def _begin(self) -> None:
        """Join the ranks, once, and give what is new rank 0's values."""
        if self._begun and not self._fresh:
            return
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
        fresh: list[torch.Tensor] = [*self._fresh]
        self._fresh.clear()
        if not self._begun:
            self._begun = True
            fresh += [buffer for module in self._modules() for buffer in module.buffers()]
        with torch.no_grad():
            for tensor in fresh:
                dist.broadcast(tensor, 0)

    # backward: where they are averaged

    def _backward(self, original: Callable[..., None]) -> Callable[..., None]:
        def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            if self._hooks.weight != 1.0:
                args, kwargs = _weighted(self._hooks.weight, tensor, *args, **kwargs)
            self._ready()
            original(tensor, *args, **kwargs)
            self._average()

        return backward

    def _ready(self) -> None:
        if not len(self._averager):
            raise RuntimeError(
                f"{self._world} ranks, and no optimizer whose gradients could be averaged: they would train "
                f"{self._world} independent copies. Use an optimizer of torch.optim, or say --parallel none."
            )
        self._begin()
        self._averager.begin()

    def _average(self) -> None:
        self._averager.finish()
        if not self._backwards:
            shards = (
                f"train loader sharded, global batch {self._world} × {self._batch_size}"
                if self._sharded
                else "no loader was iterated with gradients on: every rank trains on the same data"
            )
            self._say(f"{self._world} ranks: gradients averaged, {shards}")
        self._backwards += 1

    # loaders: who sees what

    def _wrap_loaders(self) -> None:
        original_iter, original_index = DataLoader.__iter__, torch_private.index_sampler_property()

        def iterate(loader: Any) -> Iterator[Any]:
            if not self._shards(loader):
                loader.__dict__[_SHARDED] = False
                return original_iter(loader)
            self._begin()
            self._share_randomness(loader)
            self._sharded += 1
            self._batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
            if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
                return self._follow_stream(original_iter(loader))
            loader.__dict__[_SHARDED] = True
            return self._follow(original_iter(loader), self._shard(loader))

        def index_sampler(loader: Any) -> Any:
            """The loader's batches: this rank's part where it trains, all of them where it doesn't."""
            own = original_index.__get__(loader)
            if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
                return own
            trains = loader.__dict__.get(_SHARDED)
            if trains is None:  # asked for its length before it was iterated: those that shuffle are for training
                trains = isinstance(loader.sampler, RandomSampler)
            return self._shard(loader) if trains else own

        self._patches.wrap(DataLoader, "__iter__", lambda _: iterate)
        self._patches.set(DataLoader, torch_private.INDEX_SAMPLER, property(index_sampler))

    def _shards(self, loader: Any) -> bool:
        return torch.is_grad_enabled() and not isinstance(loader.sampler, DistributedSampler)

    def _shard(self, loader: Any) -> ShardedBatches:
        if _SHARD not in loader.__dict__:
            batches = loader.batch_sampler
            loader.__dict__[_SHARD] = ShardedBatches(
                batches, self._rank, self._world, drop_last=bool(getattr(batches, "drop_last", False))
            )
        found: ShardedBatches = loader.__dict__[_SHARD]
        return found

    def _follow(self, iterator: Iterator[Any], shard: ShardedBatches) -> Iterator[Any]:
        before = self._backwards
        try:
            for batch in iterator:
                self._hooks.weight = shard.weights.popleft()
                yield batch
        finally:
            self._end_of_loop(before)

    def _follow_stream(self, iterator: Iterator[Any]) -> Iterator[Any]:
        before = self._backwards
        try:
            for batch, weight in one_in(iterator, self._rank, self._world, _samples):
                self._hooks.weight = weight
                yield batch
        finally:
            self._end_of_loop(before)

    def _end_of_loop(self, backwards_before: int) -> None:
        self._hooks.weight = 1.0
        if self._backwards == backwards_before:
            self._say(
                "a loader was iterated with gradients on, but nothing was trained: each rank saw one part in "
                f"{self._world} of it, and so did its metrics. Under torch.no_grad() every rank sees all of it."
            )

    def _share_randomness(self, loader: Any) -> None:
        """Have all ranks shuffle as rank 0 would."""
        own = randomness.loader_generators(loader)
        box = [pickle.dumps((randomness.get_state(), [one.get_state() for one in own])) if self._rank == 0 else None]
        dist.broadcast_object_list(box, 0)
        if self._rank == 0 or box[0] is None:
            return
        state, states = pickle.loads(box[0])
        randomness.set_state({**state, "cuda": None})  # what a loader draws, it draws on the CPU
        for generator, one in zip(own, states, strict=True):
            generator.set_state(one)


def _weighted(
    weight: float, tensor: torch.Tensor, gradient: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of ``backward`` for a loss that counts ``weight`` times."""
    gradient = torch.ones_like(tensor) if gradient is None else gradient
    return (gradient * weight, *args), kwargs


def _samples(batch: Any) -> int:
    """How many samples a collated batch holds."""
    while isinstance(batch, (list, tuple, dict)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if hasattr(batch, "__len__") else 1
