"""What functions have cached can be read, and given to others."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from mlnb.node.data.kinds import caches
from tests.node.data.kinds.test_tensors import travel


def make(**options: Any) -> Any:
    offset = 1

    @functools.lru_cache(**options)
    def cached(*args: Any, **keywords: Any) -> list[Any]:
        return [offset, args, keywords]

    return cached


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((3,), {}), (("a",), {"k": 7}), ((2.5, (1, 2)), {}), (((1, 2),), {}), ((), {"x": 1, "y": 2.0}),
    ((True,), {"k": None}), ((None,), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"maxsize": None}, {"maxsize": 128}, {"maxsize": None, "typed": True}, {"typed": True}]
)
def test_entries_come_and_go(options: dict[str, Any]):
    one, other = make(**options), make(**options)
    results = [one(*args, **keywords) for args, keywords in CALLS]
    found = caches.entries(one)
    assert [(args, keywords) for args, keywords, _ in found] == CALLS
    assert all(entry[2] is result for entry, result in zip(found, results, strict=True))
    other("old")
    caches.fill(other, found)
    assert other.cache_info().currsize == len(CALLS)
    assert all(other(*args, **keywords) is result for (args, keywords), result in zip(CALLS, results, strict=True))
    assert other("new")[1] == ("new",), "it is the same function still"
    assert not caches.same(caches.entries(one), caches.entries(other))
    caches.fill(other, found)
    assert caches.same(caches.entries(one), caches.entries(other))


def test_a_result_that_is_its_argument_and_a_full_cache():
    one = functools.lru_cache(maxsize=2)(lambda x: x)
    for value in (3, 4, 5, 4):
        one(value)
    assert [(args, result) for args, _, result in caches.entries(one)] == [((5,), 5), ((4,), 4)]


def test_no_cache_and_an_empty_one():
    assert caches.entries(make(maxsize=0)) == []
    empty = make()
    assert caches.entries(empty) == []
    caches.fill(empty, caches.Entries())
    assert empty.cache_info().currsize == 0


def test_a_function_that_has_no_code_of_its_own():
    one = functools.lru_cache(len)
    one("ab")
    caches.fill(one, caches.Entries([(("abc",), {}, 3)]))
    assert one("abc") == 3


def test_a_function_that_no_name_leads_to_travels_with_its_cache():
    made = make(maxsize=5)
    result = made("a", k=1)
    got, got_result = travel([made, result])
    assert got.cache_info().maxsize == 5
    assert got("a", k=1) is got_result
    assert got("b") == [1, ("b",), {}]
    assert travel(functools.lru_cache) is functools.lru_cache
