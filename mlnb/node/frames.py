"""Metrics on disk: a file of frames, each a batch of rows with the same names.

A frame is one JSON line, then its columns as little-endian doubles, then a newline::

    {"n": 2, "names": ["loss"]}\n  time time step step loss loss \n

So a batch costs one write, a million points read in milliseconds, NaN and infinity stay what they are, and a torn
last frame (its writer was killed) is recognised and left out.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NATIVE = sys.byteorder == "little"


def _pack(column: Sequence[float]) -> bytes:
    values = array("d", column)
    if not _NATIVE:  # pragma: no cover
        values.byteswap()
    return values.tobytes()


def encode(
    names: Sequence[str], times: Sequence[float], steps: Sequence[float], columns: Sequence[Sequence[float]]
) -> bytes:
    """One frame.

    Parameters
    ----------
    names
        of the metrics, one for each of ``columns``.
    times, steps
        seconds since the epoch, and steps; each of length n.
    columns
        the values, each of length n.
    """
    header = json.dumps({"n": len(times), "names": list(names)}, separators=(",", ":")).encode()
    return b"".join([header, b"\n", _pack(times), _pack(steps), *map(_pack, columns), b"\n"])


@dataclass(frozen=True)
class Frame:
    """A decoded frame: ``rows`` rows, and one memoryview of doubles a column: time, step, then the metrics."""

    names: tuple[str, ...]
    rows: int
    columns: tuple[memoryview, ...]


def decode(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[Frame, int]]:
    """Yield whole frames from ``start`` on, each with the offset behind it; stop at a torn one."""
    view = memoryview(data)
    raw = bytes(data) if not isinstance(data, bytes) else data
    while True:
        end = raw.find(b"\n", start)
        if end < 0:
            return
        try:
            header = json.loads(raw[start:end])
            rows, names = int(header["n"]), tuple(header["names"])
        except (ValueError, KeyError, TypeError):
            return
        size = 8 * rows
        body = end + 1
        stop = body + size * (2 + len(names))
        if stop + 1 > len(raw) or raw[stop : stop + 1] != b"\n":
            return
        columns = tuple(_column(view[body + i * size : body + (i + 1) * size]) for i in range(2 + len(names)))
        start = stop + 1
        yield Frame(names, rows, columns), start


def _column(view: memoryview) -> memoryview:
    values = array("d")
    values.frombytes(view)
    if not _NATIVE:  # pragma: no cover
        values.byteswap()
    return memoryview(values)
