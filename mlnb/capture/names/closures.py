"""Closures: the variables of enclosing functions that a function uses, with their values."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any


def closure_items(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The names and values of the variables; one that isn't assigned yet is left out."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the variable isn't assigned yet
            continue
