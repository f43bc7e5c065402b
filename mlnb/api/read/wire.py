"""Encodes new points for a view: a header as a line of JSON, then all steps and all values as doubles.

Server and widget send such frames; ``labextension/chart/frame.ts`` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from mlnb.api.read.cursor import SeriesUpdate

PIXELS = 2000
"""Width in pixels to which the cursor of a view decimates; no screen is wider."""


def header(update: SeriesUpdate) -> dict[str, Any]:
    """The JSON header of a frame."""
    return {
        "type": "points",
        "metric": update.metric,
        "offset": update.offset,
        "count": len(update.steps),
        "total": update.total,
    }


def message(updates: Iterable[SeriesUpdate]) -> bytes:
    """One frame after another: the header, a newline, then ``count`` steps and ``count`` values as little-endian f8."""
    return b"".join(json.dumps(header(update)).encode() + b"\n" + _body(update) for update in updates)


def _body(update: SeriesUpdate) -> bytes:
    return np.concatenate([update.steps, update.values]).astype("<f8", copy=False).tobytes()
