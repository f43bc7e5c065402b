"""Merges returned values into the objects that were sent, as if the cell had changed them here.

Objects that the cell changed in place are changed in place here, so that everything in the session that refers
to them sees it. A new object that refers to one of them (a new optimizer of an old model) is changed so that it
refers to the live one.
"""

from __future__ import annotations

import collections
from collections.abc import MutableMapping
from typing import Any

import torch

from mlnb.node.data import tensors
from mlnb.node.torch_private import storage_id

Twins = dict[int, tuple[Any, Any]]
"""id of a returned object → that object (kept, so that its id stays valid) and the live object that replaces it."""

_ATOMS = (str, bytes, int, float, complex, bool, type(None), torch.Tensor, type)

_REGISTRIES = ("_parameters", "_buffers", "_modules")
"""Attributes in which a module keeps what it is made of."""


def merge(live: Any, new: Any, twins: Twins) -> Any:
    """Make ``live`` hold what ``new`` holds.

    Parameters
    ----------
    twins
        the pairs of objects that were merged are added here; see :func:`rewire`.

    Returns
    -------
    object
        ``live``, or ``new`` if ``live`` can't be changed in place.
    """
    if id(new) in twins:
        return twins[id(new)][1]
    if type(live) is not type(new) or (isinstance(live, _ATOMS) and not isinstance(live, torch.Tensor)):
        return new
    merged = _merge(live, new, twins)
    if merged is live:
        twins[id(new)] = (new, live)
    return merged


def _merge(live: Any, new: Any, twins: Twins) -> Any:
    if isinstance(live, torch.Tensor):
        return _tensor(live, new)
    if isinstance(live, torch.nn.Module):
        return _module(live, new, twins)
    if isinstance(live, torch.optim.Optimizer):
        return _optimizer(live, new)
    if isinstance(live, torch.Generator):
        live.set_state(new.get_state())
        return live
    if isinstance(live, (list, collections.deque, bytearray)):
        live.clear()
        live.extend(new)
        return live
    if isinstance(live, (set, dict)):
        live.clear()
        live.update(new)
        return live
    if type(live).__module__ == "numpy" and hasattr(live, "shape"):
        if live.shape != new.shape or live.dtype != new.dtype or not live.flags.writeable:
            return new
        live[...] = new
        return live
    if type(live).__module__.split(".")[0] == "pandas" or not hasattr(live, "__dict__"):
        return new
    _attributes(live.__dict__, new.__dict__, twins)
    return live


def _tensor(live: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """A tensor keeps its identity. Its data is in the live storage already, else it is replaced through ``.data``."""
    same = (
        storage_id(new.untyped_storage()) == storage_id(live.untyped_storage())
        and new.shape == live.shape
        and new.stride() == live.stride()
        and new.storage_offset() == live.storage_offset()
    )
    if not same:
        live.data = new.data
    if live.is_leaf and live.requires_grad != new.requires_grad:
        live.requires_grad_(new.requires_grad)
    tensors.take_over(live, new)
    return live


def _module(live: torch.nn.Module, new: torch.nn.Module, twins: Twins) -> torch.nn.Module:
    for registry in _REGISTRIES:
        returned = new.__dict__.pop(registry)
        _attributes(live.__dict__[registry], returned, twins)
        new.__dict__[registry] = returned
    old_attributes = {key: value for key, value in live.__dict__.items() if key not in _REGISTRIES}
    new_attributes = {key: value for key, value in new.__dict__.items() if key not in _REGISTRIES}
    for key in old_attributes:
        del live.__dict__[key]
    _attributes(old_attributes, new_attributes, twins)
    live.__dict__.update(old_attributes)
    return live


def _attributes(live: MutableMapping[str, Any], new: MutableMapping[str, Any], twins: Twins) -> None:
    """``live`` gets the entries of ``new``, merged where both have a module, tensor, optimizer or generator."""
    merged = {}
    for key, value in new.items():
        old = live.get(key)
        if isinstance(old, (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.Generator)):
            merged[key] = merge(old, value, twins)
        else:
            merged[key] = twins[id(value)][1] if id(value) in twins else value
    live.clear()
    live.update(merged)


def _optimizer(live: torch.optim.Optimizer, new: torch.optim.Optimizer) -> torch.optim.Optimizer:
    live.defaults = new.defaults
    live.param_groups[:] = new.param_groups
    live.state.clear()
    live.state.update(new.state)
    mine = {key: value for key, value in vars(new).items() if key not in ("defaults", "param_groups", "state", "step")}
    vars(live).update(mine)
    return live


def rewire(value: Any, twins: Twins, visited: set[int] | None = None) -> Any:
    """Replace returned objects by their live twins, in ``value`` and all that it contains.

    Returns
    -------
    object
        ``value``, or its own twin, or (for a tuple) a new one.
    """
    if not twins or (isinstance(value, _ATOMS) and id(value) not in twins):
        return value
    if id(value) in twins:
        return rewire(twins[id(value)][1], twins, visited) if twins[id(value)][1] is not value else value
    visited = set() if visited is None else visited
    if id(value) in visited:
        return value
    visited.add(id(value))
    if isinstance(value, tuple):
        parts = [rewire(part, twins, visited) for part in value]
        if all(a is b for a, b in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, (list, collections.deque)):
        for index, part in enumerate(value):
            value[index] = rewire(part, twins, visited)
    elif isinstance(value, dict):
        _rewire_dict(value, twins, visited)
    elif isinstance(value, torch.optim.Optimizer):
        rewire(value.param_groups, twins, visited)
        rewire(value.state, twins, visited)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        _rewire_dict(value.__dict__, twins, visited)
    return value


def _rewire_dict(value: dict[Any, Any], twins: Twins, visited: set[int]) -> None:
    if any(id(key) in twins for key in value):
        entries = [(rewire(key, twins, visited), rewire(part, twins, visited)) for key, part in value.items()]
        value.clear()
        value.update(entries)
        return
    for key, part in value.items():
        twin = rewire(part, twins, visited)
        if twin is not part:
            value[key] = twin


def bind(namespace: dict[str, Any], values: dict[str, Any], in_place: frozenset[str]) -> None:
    """Bind ``values`` in ``namespace``; names in ``in_place`` keep their live objects, which get the new content."""
    twins: Twins = {}
    bound = {}
    for name in sorted(values, key=lambda name: name not in in_place):  # these first: others may refer to them
        value = values[name]
        bound[name] = merge(namespace[name], value, twins) if name in in_place and name in namespace else value
    visited: set[int] = set()
    for name, value in bound.items():
        namespace[name] = rewire(value, twins, visited)
