r"""The format of metrics files: a sequence of frames, each a batch of rows with the same metric names.

A frame is one JSON line, then its rows as little-endian doubles, then a newline::

    {"n": 2, "names": ["loss"]}\n  time step loss time step loss \n

So a batch costs one write, a million points are read in milliseconds, NaN and infinity are preserved, and an
incomplete last frame (its writer was killed) is recognised and skipped.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NATIVE = sys.byteorder == "little"


def encode_rows(names: Sequence[str], rows: array[float]) -> bytes:
    """Encode one frame.

    Parameters
    ----------
    names
        of the metrics.
    rows
        doubles, row by row: time in seconds since the epoch, step, then a value for each of ``names``.
    """
    count = len(rows) // (2 + len(names))
    header = json.dumps({"n": count, "names": list(names)}, separators=(",", ":")).encode()
    if not _NATIVE:  # pragma: no cover
        rows = array("d", rows)
        rows.byteswap()
    return b"".join([header, b"\n", rows.tobytes(), b"\n"])


def encode(
    names: Sequence[str], times: Sequence[float], steps: Sequence[float], columns: Sequence[Sequence[float]]
) -> bytes:
    """Encode one frame from columns of equal length; see :func:`encode_rows`."""
    width = 2 + len(names)
    rows = array("d", bytes(8 * width * len(times)))
    for index, column in enumerate((times, steps, *columns)):
        rows[index::width] = array("d", column)
    return encode_rows(names, rows)


@dataclass(frozen=True)
class Frame:
    """A decoded frame: the number of rows, and doubles for each column (time, step, then the metrics)."""

    names: tuple[str, ...]
    rows: int
    columns: tuple[memoryview, ...]


def decode(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[Frame, int]]:
    """Yield complete frames from offset ``start`` on, each with the offset after it; stop at an incomplete one."""
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
        width = 2 + len(names)
        body = end + 1
        stop = body + 8 * width * rows
        if stop + 1 > len(raw) or raw[stop : stop + 1] != b"\n":
            return
        values = array("d")
        values.frombytes(view[body:stop])
        if not _NATIVE:  # pragma: no cover
            values.byteswap()
        start = stop + 1
        yield Frame(names, rows, tuple(memoryview(values[index::width]) for index in range(width))), start
