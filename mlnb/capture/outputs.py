"""Outputs: which names' values a run returns to the session."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

IMMUTABLE = (
    *(int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range, slice, type(...)),
    *(PurePath, Decimal, Fraction, UUID, re.Pattern, date, time, timedelta),
)
"""Types whose objects no method changes."""


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
