"""A target's settings as typed values: what a site wrote, or one line that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlnb.errors import UsageError
from mlnb.units import parse_size, parse_time

T = TypeVar("T")


def _read(settings: Mapping[str, Any], key: str, parse: Callable[[str], T]) -> T | None:
    given = settings.get(key)
    if given is None:
        return None
    try:
        return parse(str(given))
    except ValueError as error:
        raise UsageError(f"{key}: {given!r} of the mlnb: section in Dask's configuration is not {error}") from None


def size(settings: Mapping[str, Any], key: str) -> int | None:
    """Bytes under ``key``; ``None`` if it is not set.

    Raises
    ------
    UsageError
        if it is no size. So do the others here.
    """
    return _read(settings, key, parse_size)


def time(settings: Mapping[str, Any], key: str) -> int | None:
    """Seconds under ``key``; ``None`` if it is not set."""
    return _read(settings, key, parse_time)


def seconds(settings: Mapping[str, Any], key: str) -> float | None:
    """Seconds under ``key``, where a bare number is seconds; ``None`` if it is not set."""
    given = settings.get(key)
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0:
        return float(given)
    return time(settings, key)


def flag(settings: Mapping[str, Any], key: str) -> bool | None:
    """Yes or no under ``key``; ``None`` if it is not set."""
    given = settings.get(key)
    if given is not None and not isinstance(given, bool):
        raise UsageError(f"{key}: {given!r} of the mlnb: section in Dask's configuration is neither true nor false")
    return given


def count(settings: Mapping[str, Any], key: str) -> int | None:
    """A whole number under ``key``; ``None`` if it is not set."""

    def parse(text: str) -> int:
        if not text.isdigit():
            raise ValueError("a whole number")
        return int(text)

    return _read(settings, key, parse)


def words(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Texts under ``key``, each of one line: a list, or one alone; empty if it is not set."""
    given = settings.get(key)
    found = () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in found:
        if not isinstance(one, str) or "\n" in one or "\r" in one or "\0" in one:
            raise UsageError(f"{key}: {one!r} of the mlnb: section in Dask's configuration is not a text of one line")
    return found
