"""For any objects and any cell that changes them, the session is afterwards as if the cell had run in it."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.results.returning import Sent


class Thing:
    """An object with attributes."""


class Slotted:
    """An object with attributes in slots."""

    __slots__ = ("a", "b")


class Named(dict[str, Any]):
    """A dictionary of a person's class."""


ATTRIBUTES = ("a", "b")
KINDS = ("list", "dict", "tuple", "deque", "ordered", "default", "thing", "slotted", "named", "keyed")
Operation = tuple[str, int, int, int]


def made(kind: str, parts: list[Any]) -> Any:
    """An object of a kind with these parts."""
    if kind in ("list", "tuple", "deque"):
        return {"list": list, "tuple": tuple, "deque": deque}[kind](parts)
    if kind == "keyed":
        return {part: index for index, part in enumerate(parts) if type(part) in (Thing, Slotted)}
    pairs = dict(zip(ATTRIBUTES, parts, strict=False))
    if kind == "default":
        return defaultdict(list, pairs)
    if kind in ("dict", "ordered", "named"):
        return {"dict": dict, "ordered": OrderedDict, "named": Named}[kind](pairs)
    thing = Thing() if kind == "thing" else Slotted()
    for name, part in pairs.items():
        setattr(thing, name, part)
    return thing


def parts(value: Any) -> list[Any]:
    """What an object refers to, in an order that depends on nothing but the graph."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple, deque)):
        return list(value)
    if isinstance(value, (Thing, Slotted)):
        return [getattr(value, name) for name in ATTRIBUTES if hasattr(value, name)]
    return []


def reached(roots: Any) -> list[Any]:
    """All objects that ``roots`` lead to, each once."""
    found: list[Any] = []
    stack = [roots]
    while stack:
        value = stack.pop()
        if parts(value) or isinstance(value, (list, dict, deque, Thing, Slotted)):
            if any(value is other for other in found):
                continue
            found.append(value)
        stack += reversed(parts(value))
    return found


def shape(roots: Any) -> Any:
    """The graph: for each object its kind and its parts, objects by their numbers."""
    objects = reached(roots)
    number = {id(value): index for index, value in enumerate(objects)}
    return [(type(value).__name__, [number.get(id(part), part) for part in parts(value)]) for value in objects]


@st.composite
def graphs(draw: st.DrawFn) -> list[Any]:
    """Objects that refer to each other, some in circles."""
    objects: list[Any] = []
    for _ in range(draw(st.integers(2, 7))):
        leaves = st.integers(0, 3) | st.sampled_from(["x", "y", None])
        chosen = [draw(st.sampled_from(objects) if objects and draw(st.booleans()) else leaves) for _ in range(2)]
        objects.append(made(draw(st.sampled_from(KINDS)), chosen))
    for value in objects:
        if isinstance(value, list) and draw(st.booleans()):
            value.append(draw(st.sampled_from(objects)))
        elif isinstance(value, Thing) and draw(st.booleans()):
            value.b = draw(st.sampled_from(objects))  # type: ignore[attr-defined]
    return objects


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "put", "new", "remove", "clear", "bind", "unbind", "swap"]),
        st.integers(0, 20),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=8,
)


def cell(namespace: dict[str, Any], todo: list[Operation]) -> None:
    """Do to the objects of a namespace what a cell might do."""
    for action, one, other, more in todo:
        objects = [value for value in reached(namespace) if value is not namespace]
        if not objects:
            return
        target, second = objects[one % len(objects)], objects[other % len(objects)]
        new = made(KINDS[more % len(KINDS)], [second, more])
        if action == "bind":
            namespace[f"n{one % 3}"] = second if more % 2 else new
        elif action == "unbind" and len(namespace) > 1:
            namespace.pop(next(iter(namespace)))
        elif action == "clear":
            clear(target)
        elif action in ("add", "put", "new"):
            put(target, second if action != "new" else new, more)
        elif action == "swap" and isinstance(target, (list, deque)):
            target.reverse()
        elif action == "remove":
            remove(target)


def clear(target: Any) -> None:
    if isinstance(target, (list, dict, deque)):
        target.clear()
    elif isinstance(target, Thing):
        vars(target).clear()


def put(target: Any, value: Any, number: int) -> None:
    name = ATTRIBUTES[number % 2]
    if isinstance(target, (list, deque)):
        if target and number % 2:
            target[number % len(target)] = value
        else:
            target.append(value)
    elif isinstance(target, dict):
        target[name] = value
    elif isinstance(target, (Thing, Slotted)):
        setattr(target, name, value)


def remove(target: Any) -> None:
    if isinstance(target, (list, deque)) and target:
        target.pop()
    elif isinstance(target, dict) and target:
        target.pop(next(iter(target)))
    elif isinstance(target, Slotted) and hasattr(target, "a"):
        del target.a


@given(objects=graphs(), sent=st.integers(1, 3), todo=operations)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_session_is_as_if_the_cell_had_run_in_it(objects: list[Any], sent: int, todo: list[Operation]) -> None:
    namespace = {f"n{index}": value for index, value in enumerate(objects[-sent:])}
    expected, witnesses = copy.deepcopy((namespace, objects))
    cell(expected, todo)
    run = Sent(**namespace)
    cell(run.run, todo)
    back = run.back()
    assert shape([back, objects]) == shape([{name: expected[name] for name in back}, witnesses])
    assert set(back) == set(expected)


@given(objects=graphs(), todo=operations)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_another_session_gets_equal_objects(objects: list[Any], todo: list[Operation]) -> None:
    run = Sent(all=objects)
    cell(run.run, todo)
    assert shape(run.copies()) == shape(run.run)
