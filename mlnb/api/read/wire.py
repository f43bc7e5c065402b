"""How points go to a view: each once, in frames of a JSON header and doubles, decimated where they are many.

Widget and server speak the same; ``labextension/chart/frame.ts`` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlnb.api.read.decimate import Array, decimate
from mlnb.api.read.history import Series

PIXELS = 2000
"""More points than five times this at once are decimated: no screen shows more."""


@dataclass(frozen=True)
class Part:
    """Points of one metric: what a view holds of it from ``offset`` on is replaced by these.

    Attributes
    ----------
    total
        how many were logged in all; a view may have got fewer.
    """

    metric: str
    offset: int
    steps: Array
    values: Array
    total: int

    def header(self) -> dict[str, Any]:
        """What goes in front of the doubles."""
        return {
            "type": "points",
            "metric": self.metric,
            "offset": self.offset,
            "count": len(self.steps),
            "total": self.total,
        }

    def body(self) -> bytes:
        """All steps, then all values."""
        return np.concatenate([self.steps, self.values]).astype("<f8", copy=False).tobytes()


def message(parts: Iterable[Part]) -> bytes:
    """Frames behind each other: a header as a line of JSON, then its doubles."""
    return b"".join(json.dumps(part.header()).encode() + b"\n" + part.body() for part in parts)


@dataclass
class _Place:
    """How much of one metric a view has got for good: so many points as logged, so many as sent."""

    series: Series | None = None
    generation: int = -1
    logged: int = 0
    sent: int = 0


class SeriesCursor:
    """What one view has got."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def new(self, told: Mapping[str, Series]) -> list[Part]:
        """What the view hasn't got yet of ``told``; from now on it has."""
        parts = []
        for name in set(self._places) - set(told):
            del self._places[name]
        for name, one in told.items():
            place = self._places.setdefault(name, _Place())
            if one is not place.series:
                part = _advance(place, name, one)
                parts += [part] if len(part.steps) or not part.offset else []
        return parts


def _advance(place: _Place, name: str, one: Series) -> Part:
    if one.generation != place.generation:
        place.logged = place.sent = 0
    stable = decimate(one.step[place.logged : one.stable], one.value[place.logged : one.stable], PIXELS)
    rest = decimate(one.step[one.stable :], one.value[one.stable :], PIXELS)
    steps, values = (np.concatenate(pair) for pair in zip(stable, rest, strict=True))
    part = Part(name, place.sent, steps, values, len(one))
    place.series, place.generation, place.logged = one, one.generation, one.stable
    place.sent += len(stable[0])
    return part
