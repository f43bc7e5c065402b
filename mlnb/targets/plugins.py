"""Loads classes by name, from a built-in table and from entry points of other distributions, when they are needed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

from mlnb.errors import UsageError


class Plugins:
    """The built-in and the installed implementations of one extension point.

    Parameters
    ----------
    noun
        what one of them is, for error messages, as in ``target kind``.
    group
        the entry point group (see "Entry points specification" of the Python Packaging User Guide).
    built_in
        name → ``module:attribute`` of mlnb's own. Another distribution can't replace them.
    """

    def __init__(self, noun: str, group: str, built_in: Mapping[str, str]) -> None:
        self._noun, self._group, self._built_in = noun, group, built_in

    def names(self) -> list[str]:
        """All names, sorted. Imports nothing."""
        return sorted({*self._built_in, *_entry_points(self._group, tuple(sys.path))})

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name. Imports nothing."""
        return name in self._built_in or name in _entry_points(self._group, tuple(sys.path))

    def load(self, name: str) -> Any:
        """Import the one called ``name``; it is in :meth:`names`.

        Raises
        ------
        UsageError
            if its entry point can't be loaded, or two distributions define the name; the message names them.
        """
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            return getattr(import_module(module), attribute)
        points = _entry_points(self._group, tuple(sys.path))[name]
        if len(points) > 1:
            raise UsageError(f"{self._noun} {name}: both {' and '.join(map(_distribution, points))} define it")
        try:
            return points[0].load()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UsageError(f"{self.where(name)} can't be loaded: {reason}") from error

    def where(self, name: str) -> str:
        """The one called ``name`` and the distribution that it comes from, for error messages."""
        if name in self._built_in:
            return f"{self._noun} {name}"
        point = _entry_points(self._group, tuple(sys.path))[name][0]
        return f"{self._noun} {name} of the distribution {_distribution(point)}"


def _distribution(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


@functools.lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:  # noqa: ARG001 - the key
    """The entry points of a group, by name: read once for each ``sys.path``, since it takes tens of milliseconds."""
    points: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=group):
        points.setdefault(point.name, []).append(point)
    return points
