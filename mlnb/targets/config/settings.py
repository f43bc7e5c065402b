"""Reads a target's settings as typed values; an invalid one is an error of one line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from mlnb.errors import UsageError
from mlnb.units import parse_size, parse_time

T = TypeVar("T")


def checked(target: str, kind: str, given: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """The settings of a target by name, with ``-`` for ``_``: Dask treats both the same.

    Parameters
    ----------
    allowed
        the names of settings that targets of this kind have, with ``-``; ``kind`` is always allowed.

    Raises
    ------
    UsageError
        for any other name: otherwise a misspelt limit would limit nothing. The message has the nearest name.
    """
    names = {*allowed, "kind"}
    values = {str(key).replace("_", "-"): value for key, value in given.items()}
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"available: {', '.join(sorted(names))}"
            raise UsageError(f"targets: {target}: {key}: a {kind} target has no such setting; {hint}")
    return values


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
        if it is not a size. The other functions of this module raise it, too, for their types.
    """
    return _read(settings, key, parse_size)


def time(settings: Mapping[str, Any], key: str) -> int | None:
    """Seconds under ``key``, written with a unit (``4h``) or as ``"4:00:00"``; ``None`` if it is not set."""
    given = settings.get(key)
    if isinstance(given, (int, float)) or (isinstance(given, str) and given.strip().isdigit()):
        # YAML reads a bare 4:00:00 as the number 14400
        raise UsageError(
            f"{key}: {given!r} of the mlnb: section in Dask's configuration has no unit; "
            'write 4h, or quote it, as in "4:00:00"'
        )
    return _read(settings, key, parse_time)


def seconds(settings: Mapping[str, Any], key: str) -> float | None:
    """Seconds under ``key``, where a number without a unit is seconds; ``None`` if it is not set."""
    given = settings.get(key)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if given <= 0:
            raise UsageError(
                f"{key}: {given!r} of the mlnb: section in Dask's configuration: write more than 0 seconds"
            )
        return float(given)
    return time(settings, key)


def flag(settings: Mapping[str, Any], key: str) -> bool | None:
    """``true`` or ``false`` under ``key``; ``None`` if it is not set."""
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


def lines(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The strings under ``key``, a list or a single one, none with a line break; empty if it is not set."""
    given = settings.get(key)
    texts = () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for text in texts:
        if not isinstance(text, str) or "\n" in text or "\r" in text or "\0" in text:
            raise UsageError(f"{key}: {text!r} of the mlnb: section in Dask's configuration is not one line of text")
    return texts
