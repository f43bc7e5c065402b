"""Outputs: which names' values a run returns to the session."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from types import ModuleType
from typing import Any

IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range, slice, type(...))


def default_outputs(
    assigned: Iterable[str],
    captured: Mapping[str, Any],
    mutated: Collection[str],
    maybe_mutated: Collection[str],
) -> list[str]:
    """The names whose values a cell returns unless the user lists others.

    Parameters
    ----------
    assigned
        names that the cell assigns or deletes.
    captured
        the values that are sent, by name.
    mutated
        names whose value the syntax of the cell's code changes.
    maybe_mutated
        names whose value it may change.

    Returns
    -------
    list of str
        in the order of ``captured``, then by name.
    """
    changing = {
        id(value) for name, value in captured.items() if _may_change(value, name in mutated, name in maybe_mutated)
    }
    outputs = [name for name, value in captured.items() if id(value) in changing]
    outputs += sorted(set(assigned) - set(outputs))
    return [name for name in outputs if not _IPYTHON.fullmatch(name)]


_IPYTHON = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_[iod]h|__\w+__")
"""Names that IPython itself assigns: inputs, outputs and the like."""


def names_sharing_storages(
    names: Collection[str], storages: Collection[int], namespace: Mapping[str, Any]
) -> list[str]:
    """The names of ``namespace``, other than ``names``, with tensors in ``storages`` (addresses).

    Objects are searched one level deep: a trainer that holds the model, a list of models.
    """
    if not storages:
        return []
    others = {name: value for name, value in namespace.items() if name not in names and not name.startswith("_")}
    return sorted(name for name, value in others.items() if not _nearby_storages(value).isdisjoint(storages))


def _nearby_storages(value: Any) -> set[int]:
    """The addresses of the tensor storages in ``value`` and in its parts; empty if it can't be searched.

    Such an object may have nothing to do with the cell, as a module whose ``__init__`` did not call its base class.
    """
    try:
        return {address for part in (value, *_parts(value)) for address in storage_addresses(part)}
    except Exception:  # noqa: BLE001 - code of the session's objects
        return set()


def _parts(value: Any) -> Iterator[Any]:
    """The first 100 objects in a value."""
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif not isinstance(value, (type, ModuleType)):
        parts = getattr(value, "__dict__", {}).values()
    return islice(parts, 100)


def storage_addresses(value: Any) -> Iterable[int]:
    """The addresses of the storages of a tensor, or of a module's or an optimizer's tensors."""
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
        if tensor.layout is torch.strided and not torch.nn.parameter.is_lazy(tensor):
            yield storage_id(tensor.untyped_storage())


def _may_change(value: Any, mutated: bool, maybe_mutated: bool) -> bool:
    if isinstance(value, IMMUTABLE):
        return False
    if is_trained(value):
        return True
    if is_loader(value):
        return False
    if is_array(value):
        return mutated
    return maybe_mutated or mutated


def is_trained(value: Any) -> bool:
    """Whether ``value`` is something that training changes: a module, optimizer, scheduler, scaler or generator."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    kinds = [torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.Generator]
    kinds += [torch.amp.GradScaler]
    return isinstance(value, tuple(kinds))


def is_loader(value: Any) -> bool:
    """Whether ``value`` is a dataset, a data loader or a sampler."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(value, (data.Dataset, data.DataLoader, data.Sampler))


def is_array(value: Any) -> bool:
    """Whether ``value`` is a tensor, an array or a data frame."""
    kinds: list[type] = []
    if "torch" in sys.modules:
        kinds.append(sys.modules["torch"].Tensor)
    if "numpy" in sys.modules:
        kinds += [sys.modules["numpy"].ndarray, sys.modules["numpy"].generic]
    if "pandas" in sys.modules:
        pandas = sys.modules["pandas"]
        kinds += [pandas.DataFrame, pandas.Series, pandas.Index]
    return isinstance(value, tuple(kinds))
