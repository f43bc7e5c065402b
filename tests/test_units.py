"""Sizes and times as people write them, there and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.units import format_limit, format_size, format_time, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * 10**9),
        ("24 gb", 24 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("500M", 500 * 10**6),
        ("500MiB", 500 * 2**20),
        ("1k", 1000),
        ("2TB", 2 * 10**12),
        ("7", 7),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "0", "0GB", "-1GB", "1e9", "1,5GB", "24 GB extra", "24PB", "nan", "0.0001k"]
)
def test_an_invalid_size_is_an_error_that_says_what_is_allowed(text: str):
    with pytest.raises(ValueError, match="a size like 24GB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("30min", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("1d", 86400),
        ("1d2h3m4s", 93784),
        ("90", 5400),
        ("02:30:00", 9000),
        ("2:30", 150),
        ("1-12:00:00", 129600),
        ("1-12:00", 129600),
        (" 2H ", 7200),
    ],
)
def test_times(text: str, seconds: int):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "00:00:00", "-5m", "h", "5x", "1h extra", "1.2.3", "m5", "12 34"])
def test_an_invalid_time_is_an_error_that_says_what_is_allowed(text: str):
    with pytest.raises(ValueError, match="a time like 90s"):
        parse_time(text)


@given(st.integers(1, 9 * 10**14))
def test_a_formatted_size_can_be_parsed(size: int):
    text = format_size(size)
    number = re.fullmatch(r"(\d+(?:\.\d)?) (B|kB|MB|GB|TB)", text)
    assert number
    assert float(number[1]) < 1000
    assert parse_size(text) == pytest.approx(size, rel=0.06)


@given(st.integers(1, 10**7))
def test_a_formatted_time_can_be_parsed(seconds: int):
    text = format_time(seconds)
    assert not re.search(r"\b60 (s|min)", text)
    if seconds >= 10:
        assert parse_time(text) == pytest.approx(seconds, rel=0.09)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (12, "12 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
    ],
)
def test_formatted_times(seconds: float, text: str):
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (99_960, "100 kB"),
        (1.5e9, "1.5 GB"),
        (2e15, "2000.0 TB"),
    ],
)
def test_formatted_sizes(size: float, text: str):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (2, "2 s"), (10.0, "10 s"), (300, "5 min"), (5400, "1 h 30 min")]
)
def test_a_limit_is_in_whole_seconds(seconds: float, text: str):
    assert format_limit(seconds) == text
