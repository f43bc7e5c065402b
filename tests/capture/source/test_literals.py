"""Plain values are written as a person would write them."""

from __future__ import annotations

import enum
import math
from pathlib import Path, PurePosixPath

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlnb.capture.source.literals import literal


def evaluate(text):
    return eval(text, {"torch": torch, "Path": Path, "PurePosixPath": PurePosixPath})


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.just(...),
    st.builds(range, st.integers(-9, 9)),
)
hashable = st.recursive(atoms.filter(lambda a: a is not None), lambda inner: st.tuples(inner, inner), max_leaves=3)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.tuples(inner, inner),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.binary(max_size=9).map(bytearray),
        st.builds(slice, inner, inner, inner),
    ),
    max_leaves=12,
)


def holds_set(value):
    if isinstance(value, dict):
        return any(map(holds_set, (*value.keys(), *value.values())))
    if isinstance(value, slice):
        return any(map(holds_set, (value.start, value.stop, value.step)))
    return isinstance(value, (set, frozenset)) or (isinstance(value, (list, tuple)) and any(map(holds_set, value)))


@given(values)
def test_a_literal_evaluates_to_an_equal_value_of_the_same_type(value):
    written = literal(value)
    if written is None:
        return
    result = evaluate(written.text)
    assert result == value
    assert type(result) is type(value)
    if not holds_set(value):  # whose order does not matter
        assert repr(result) == repr(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, complex(-0.0, math.inf), 1e300, 10**300])
def test_infinities_signed_zeros_and_large_numbers(value):
    assert repr(evaluate(literal(value).text)) == repr(value)


def test_not_a_number():
    assert math.isnan(evaluate(literal(math.nan).text))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.device("cuda", 1), "torch.device('cuda:1')"),
        (torch.float16, "torch.float16"),
        (torch.Size([1, 2]), "torch.Size((1, 2))"),
        (Path("a/b"), "Path('a/b')"),
        ([{"lr": 0.1}, (1,), set(), frozenset({2})], "[{'lr': 0.1}, (1,), set(), frozenset({2})]"),
        (slice(1, None), "slice(1, None, None)"),
    ],
)
def test_literals_are_readable(value, text):
    assert literal(value).text == text
    assert evaluate(text) == value


class Colour(enum.Enum):
    RED = 1


class Flags(enum.Flag):
    A = 1
    B = 2


def test_members_of_enumerations_by_name():
    assert literal(Colour.RED, lambda kind: kind.__name__).text == "Colour.RED"
    assert literal(Colour.RED) is None
    assert literal(Flags.A | Flags.B, lambda kind: kind.__name__) is None


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [Text("x"), object(), "x" * 5000, [0] * 5000, 1 << 99999, {1: {2: "y" * 3000}}, bool],
    ids=lambda v: type(v).__name__,
)
def test_values_that_are_not_literals(value):
    assert literal(value) is None


def test_containers_that_occur_twice_or_hold_themselves():
    inner = [1]
    loop: list = []
    loop.append(loop)
    assert literal([inner, inner]) is None
    assert literal(loop) is None
