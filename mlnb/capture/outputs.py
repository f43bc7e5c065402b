"""Which names the session wants back."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
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


def sharing(names: Collection[str], namespace: Mapping[str, Any]) -> list[str]:
    """The names of ``namespace`` beside ``names`` whose tensors share memory with those of ``names``."""
    changing = {place for name in names if name in namespace for place in _storages(namespace[name])}
    if not changing:
        return []
    others = [name for name in namespace if name not in names and not name.startswith("_")]
    return sorted(name for name in others if not changing.isdisjoint(_storages(namespace[name])))


def _storages(value: Any) -> Iterable[int]:
    """What tells the tensor storages of a tensor, a module or an optimizer from others."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(value, torch.nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
    elif isinstance(value, torch.optim.Optimizer):
        tensors = [tensor for group in value.param_groups for tensor in group["params"]]
    else:
        tensors = [value] if isinstance(value, torch.Tensor) else []
    for tensor in tensors:
        if tensor.layout is torch.strided:
            yield tensor.untyped_storage()._cdata


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
