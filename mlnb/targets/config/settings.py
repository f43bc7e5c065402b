"""A target's settings as typed values: what a site wrote, or one line that says what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlnb.errors import UsageError
from mlnb.units import parse_size, parse_time

T = TypeVar("T")

_LIMITS = frozenset({"max-gpus", "max-nodes", "max-memory", "max-time"})
_BATCH = _LIMITS | {
    *("jobqueue", "partition", "account", "cpus", "memory", "time", "directives", "setup"),
    *("python", "image", "container", "gpus", "requeue", "grace", "poll", "interface", "command-variables"),
}
_OWN: Mapping[str, frozenset[str]] = {
    "local": _LIMITS | {"warm", "grace"},
    "slurm": _BATCH | {"cluster"},
    "sge": _BATCH | {"parallel-environment", "gpu-resource"},
    "htcondor": _BATCH | {"disk"},
}


def known(target: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a target of this kind, as they are called here: Dask takes ``-`` and ``_`` for the same.

    Raises
    ------
    UsageError
        for one that there isn't, with the nearest: a limit that is misspelt would limit nothing.
    """
    there = _OWN.get(kind, _BATCH) | {"kind"}
    found = {str(key).replace("_", "-"): value for key, value in settings.items()}
    for key in found:
        if key not in there:
            near = difflib.get_close_matches(key, there, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(there))}"
            raise UsageError(f"targets: {target}: {key}: a {kind} target has no such setting; {hint}")
    return found


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
    """Seconds under ``key``, with a unit or as a clock has them; ``None`` if it is not set."""
    given = settings.get(key)
    if isinstance(given, (int, float)) or (isinstance(given, str) and given.strip().isdigit()):
        # YAML reads a bare 4:00:00 as the number 14400
        raise UsageError(
            f"{key}: {given!r} of the mlnb: section in Dask's configuration has no unit; "
            'write 4h, or quote it, as in "4:00:00"'
        )
    return _read(settings, key, parse_time)


def seconds(settings: Mapping[str, Any], key: str) -> float | None:
    """Seconds under ``key``, where a bare number is seconds; ``None`` if it is not set."""
    given = settings.get(key)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if given <= 0:
            raise UsageError(
                f"{key}: {given!r} of the mlnb: section in Dask's configuration: write more than 0 seconds"
            )
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
