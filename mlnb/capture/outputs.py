"""Which names the session wants back."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from types import ModuleType
from typing import Any

IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range, slice, type(...))


def wanted(
    bound: Iterable[str],
    captured: Mapping[str, Any],
    changed: Collection[str],
    touched: Collection[str],
) -> list[str]:
    """The default outputs of a cell.

    Parameters
    ----------
    bound
        names that the cell binds or deletes.
    captured
        what goes along, by name.
    changed
        names whose value the cell's code changes by its syntax.
    touched
        names whose value it may change.

    Returns
    -------
    list of str
        in the order of ``captured``, then by name.
    """
    found = [name for name, value in captured.items() if _may_change(value, name in changed, name in touched)]
    same = {id(captured[name]) for name in found}
    found = [name for name, value in captured.items() if name in found or id(value) in same]
    found += sorted(set(bound) - set(found))
    return [name for name in found if not name.startswith("_")]


def sharing(names: Collection[str], changing: Collection[int], namespace: Mapping[str, Any]) -> list[str]:
    """The names of ``namespace`` beside ``names`` whose tensors are in the storages ``changing``.

    Objects are looked into one level deep: a trainer that holds the model, a list of models.
    """
    if not changing:
        return []
    found = []
    for name, value in namespace.items():
        if name not in names and not name.startswith("_"):
            places = {place for part in (value, *_parts(value)) for place in storages(part)}
            if not places.isdisjoint(changing):
                found.append(name)
    return sorted(found)


def _parts(value: Any) -> Iterator[Any]:
    """The first things that a value holds."""
    held: Iterable[Any] = ()
    if isinstance(value, dict):
        held = value.values()
    elif isinstance(value, (list, tuple)):
        held = value
    elif not isinstance(value, (type, ModuleType)):
        held = getattr(value, "__dict__", {}).values()
    return islice(held, 100)


def storages(value: Any) -> Iterable[int]:
    """What tells the tensor storages of a tensor, a module or an optimizer from others."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    from mlnb.node.torch_private import storage_id

    if isinstance(value, torch.nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
    elif isinstance(value, torch.optim.Optimizer):
        tensors = [tensor for group in value.param_groups for tensor in group["params"]]
    else:
        tensors = [value] if isinstance(value, torch.Tensor) else []
    for tensor in tensors:
        if tensor.layout is torch.strided:
            yield storage_id(tensor.untyped_storage())


def _may_change(value: Any, changed: bool, touched: bool) -> bool:
    if isinstance(value, IMMUTABLE):
        return False
    if trains(value):
        return True
    if is_loader(value):
        return False
    if is_array(value):
        return changed
    return touched or changed


def trains(value: Any) -> bool:
    """Whether ``value`` is something that a training changes: a module, an optimizer, a scheduler, a scaler."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    kinds = [torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.Generator]
    kinds += [torch.amp.GradScaler]
    return isinstance(value, tuple(kinds))


def is_loader(value: Any) -> bool:
    """Whether ``value`` is a dataset or a loader."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(value, (data.Dataset, data.DataLoader, data.Sampler))


def is_array(value: Any) -> bool:
    """Whether ``value`` is a tensor, an array or a frame."""
    kinds: list[type] = []
    if "torch" in sys.modules:
        kinds.append(sys.modules["torch"].Tensor)
    if "numpy" in sys.modules:
        kinds += [sys.modules["numpy"].ndarray, sys.modules["numpy"].generic]
    if "pandas" in sys.modules:
        pandas = sys.modules["pandas"]
        kinds += [pandas.DataFrame, pandas.Series, pandas.Index]
    return isinstance(value, tuple(kinds))
