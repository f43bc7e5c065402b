"""Objects of torch that pickle refuses or sends without a part of what they are."""

from __future__ import annotations

import copyreg
import io
from collections import OrderedDict
from typing import Any

import torch
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from mlnb.node.data.kinds.tensors import reduce_tensor
from mlnb.node.torch_private import has_persistent_iterator, is_wrapped_by_scheduler, mark_steps, without_iterator

OF_TORCH = (torch.Tensor, torch.nn.Module, Optimizer, torch.Generator, DataLoader, LRScheduler, OrderedDict)
"""The classes whose objects :func:`reduce_object` may reduce."""


def reduce_object(obj: Any) -> Any:
    """Reduce an object for pickle (as ``reducer_override`` does); ``NotImplemented`` if its own way loses nothing."""
    if isinstance(obj, torch.Tensor):
        return reduce_tensor(obj)
    if isinstance(obj, torch.nn.Module):
        return _reduce_module(obj)
    if isinstance(obj, Optimizer):
        return _reduce_optimizer(obj)
    if isinstance(obj, torch.Generator):
        return _generator, (obj.device.type, obj.get_state())
    if isinstance(obj, DataLoader):
        return _reduce_loader(obj)
    if isinstance(obj, LRScheduler):
        return _reduce_scheduler(obj)
    if isinstance(obj, OrderedDict) and type(obj) is OrderedDict and _is_hooks(obj):
        return _hooks, (max(obj),), None, None, iter(obj.items())
    return NotImplemented


def _is_hooks(entries: OrderedDict[Any, Any]) -> bool:
    """Whether this is a registry of hooks: functions by the numbers that torch gives them."""
    return bool(entries) and all(type(key) is int for key in entries) and any(map(callable, entries.values()))


def _reduce_optimizer(optimizer: Optimizer) -> Any:
    """All attributes: torch sends three, without the hooks and what classes derived from ``Optimizer`` add."""
    kind: Any = type(optimizer)
    own = [kind.__getstate__, kind.__reduce__, kind.__reduce_ex__]
    if own != [Optimizer.__getstate__, Optimizer.__reduce__, Optimizer.__reduce_ex__]:
        return NotImplemented
    state = dict(vars(optimizer))
    if is_wrapped_by_scheduler(state.get("step")):
        del state["step"]  # its scheduler wraps it again
    return copyreg.__newobj__, (kind,), state  # type: ignore[attr-defined]


def _reduce_loader(loader: DataLoader[Any]) -> Any:
    if not has_persistent_iterator(loader):
        return NotImplemented
    reduced: Any = loader.__reduce_ex__(5)  # persistent workers can't be sent: the run starts new ones
    if not isinstance(reduced[2], dict):
        return reduced
    return (*reduced[:2], without_iterator(reduced[2]), *reduced[3:])


def _reduce_scheduler(scheduler: LRScheduler) -> Any:
    reduced: Any = (*scheduler.__reduce_ex__(5), None, None)[:5]
    return (*reduced, _set_scheduler) if isinstance(reduced[2], dict) else NotImplemented


def _reduce_module(module: torch.nn.Module) -> Any:
    if isinstance(module, torch.jit.ScriptModule):
        data = io.BytesIO()
        torch.jit.save(module, data)
        return _script_module, (data.getvalue(),), _tensors_by_module(module), None, None, _set_tensors
    if parametrize.is_parametrized(module) and type(module).__name__.startswith("Parametrized"):
        names = tuple(module.parametrizations)  # type: ignore[arg-type]
        original = parametrize.type_before_parametrizations(module)
        return _parametrized, (original, names), dict(vars(module)), None, None, _set_dict
    return NotImplemented


def _tensors_by_module(module: torch.nn.Module) -> list[tuple[str, str, torch.Tensor]]:
    """The parameters and buffers of a module: the module's path, the name in it and the tensor."""
    return [
        (path, name, tensor)
        for path, part in module.named_modules()
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
    ]


# Streams refer to these functions by name: older ones must still load.


def _set_scheduler(scheduler: Any, state: dict[str, Any]) -> None:
    """Set a scheduler's state. Without :func:`mark_steps` it would warn at its first step."""
    vars(scheduler).update(state)
    mark_steps(scheduler.optimizer)


def _generator(device: str, state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator(device if device == "cpu" or torch.cuda.is_available() else "cpu")
    if generator.device.type == device:
        generator.set_state(state)
    return generator


def _hooks(newest: int) -> OrderedDict[int, Any]:
    """An empty registry of hooks. Hooks that are registered from now on get numbers after those in it."""
    RemovableHandle.next_id = max(RemovableHandle.next_id, newest + 1)
    return OrderedDict()


def _set_dict(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).clear()
    vars(obj).update(state)


def _parametrized(original: type[torch.nn.Module], names: tuple[str, ...]) -> torch.nn.Module:
    """A module of the class that parametrizing ``names`` makes of ``original``; its attributes are set later."""
    module = original.__new__(original)
    torch.nn.Module.__init__(module)
    for name in names:
        module.register_parameter(name, torch.nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(module, name, torch.nn.Identity(), unsafe=True)
    return module


def _script_module(data: bytes) -> Any:
    return torch.jit.load(io.BytesIO(data), map_location="cpu")


def _set_tensors(module: torch.nn.Module, tensors: list[tuple[str, str, torch.Tensor]]) -> None:
    """Make a module hold these very tensors, which others (an optimizer) hold too."""
    parts = dict(module.named_modules())
    for path, name, tensor in tensors:
        setattr(parts[path], name, tensor)
