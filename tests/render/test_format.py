"""Python's side of ``formats.json``; ``labextension/tests/format.test.ts`` holds TypeScript to the same table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.render import format as formats

TABLE = json.loads(Path(__file__).with_name("formats.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "value", "text"), [(kind, *row) for kind, rows in TABLE.items() for row in rows])
def test_numbers_are_written_as_the_table_says(kind: str, value: float | str, text: str):
    assert getattr(formats, f"format_{kind}")(float(value)) == text


def test_every_formatter_is_in_the_table():
    assert {f"format_{kind}" for kind in TABLE} == set(formats.__all__)


@given(st.floats(-1e300, 1e300))
def test_a_value_reads_as_that_value(value: float):
    text = formats.format_value(value).replace("\u2212", "-")
    assert float(text) == pytest.approx(value, rel=5.1e-3, abs=0)


@given(st.integers(-(10**15), 10**15))
def test_a_step_keeps_each_digit(step: int):
    assert int(formats.format_step(step).replace("\u2212", "-").replace("\u202f", "")) == step
