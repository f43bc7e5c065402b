"""Metrics on disk survive their writer's death at any byte."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlnb.node.rank import frames

Batch = tuple[list[str], list[float], list[float], list[list[float]]]

doubles = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    names = draw(st.lists(st.text(max_size=8), max_size=4, unique=True))
    rows = draw(st.integers(1, 5))
    column = st.lists(doubles, min_size=rows, max_size=rows)
    return names, draw(column), draw(column), [draw(column) for _ in names]


def bits(values: Sequence[float]) -> list[int]:
    """Doubles as their bits: NaN equals itself, 0.0 is not -0.0."""
    return np.asarray(values, dtype=np.float64).view(np.uint64).tolist()


def same(frame: frames.Frame, batch: Batch) -> bool:
    names, times, steps, columns = batch
    return (
        frame.names == tuple(names)
        and frame.rows == len(times)
        and [bits(column) for column in frame.columns] == [bits(column) for column in (times, steps, *columns)]
    )


@given(st.lists(batches(), max_size=4))
def test_decoding_returns_what_was_encoded_bit_for_bit(written: list[Batch]):
    data = b"".join(frames.encode(*batch) for batch in written)
    read = list(frames.decode(data))
    assert len(read) == len(written)
    assert all(same(frame, batch) for (frame, _), batch in zip(read, written, strict=True))
    assert [end for _, end in read][-1:] == [len(data)] * bool(written)


@given(st.lists(batches(), min_size=1, max_size=3), st.data())
def test_a_file_cut_at_any_byte_yields_the_complete_frames_before_it(written: list[Batch], data: st.DataObject):
    parts = [frames.encode(*batch) for batch in written]
    complete = b"".join(parts)
    cut = data.draw(st.integers(0, len(complete)))
    ends = np.cumsum([len(part) for part in parts])
    read = list(frames.decode(complete[:cut]))
    assert len(read) == int((ends <= cut).sum())
    assert all(same(frame, batch) for (frame, _), batch in zip(read, written, strict=False))


def test_every_single_cut_of_two_frames():
    first = frames.encode(["loss", "acc"], [1.0, 2.0], [1, 2], [[0.5, float("nan")], [0.1, float("inf")]])
    second = frames.encode(["loss"], [3.0], [3], [[0.25]])
    for cut in range(len(first + second) + 1):
        expected = (cut >= len(first)) + (cut >= len(first + second))
        assert len(list(frames.decode((first + second)[:cut]))) == expected


@given(st.lists(batches(), max_size=2), st.binary(max_size=60))
def test_an_invalid_tail_hides_no_frame_before_it(written: list[Batch], tail: bytes):
    data = b"".join(frames.encode(*batch) for batch in written)
    read = list(frames.decode(data + b"{torn" + tail))
    assert len(read) == len(written)
    assert all(same(frame, batch) for (frame, _), batch in zip(read, written, strict=True))


@given(st.binary(max_size=200))
def test_garbage_is_never_an_error(data: bytes):
    list(frames.decode(data))


def test_wrong_headers_are_an_incomplete_frame():
    for header in (b'{"n": -1, "names": []}', b'{"n": 1e300, "names": []}', b'{"n": 1, "names": 7}', b"[1]", b"7"):
        assert list(frames.decode(header + b"\n" + b"\0" * 64 + b"\n")) == []


def test_reading_continues_where_it_ended():
    first, second = (frames.encode(["a"], [t], [t], [[t]]) for t in (1.0, 2.0))
    ((_, end),) = frames.decode(first)
    ((frame, _),) = frames.decode(first + second, end)
    assert list(frame.columns[2]) == [2.0]
