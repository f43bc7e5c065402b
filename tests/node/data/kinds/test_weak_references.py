"""Weak references travel with what they refer to, and refer to the same object as everything else does."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch

from tests.api.results.returning import Sent


class Engine:
    """An object whose handlers refer back to it weakly, as libraries do to avoid cycles."""

    def __init__(self) -> None:
        self.steps, self.handlers = 0, [(count, weakref.ref(self))]

    def run(self) -> None:
        for handler, engine in self.handlers:
            handler(engine())


def count(engine: Engine) -> None:
    engine.steps += 1


def test_an_object_that_refers_to_itself_weakly():
    engine = Engine()
    sent = Sent(engine=engine)
    sent.engine.run()
    assert sent.back()["engine"] is engine
    engine.run()
    assert engine.steps == 2
    assert engine.handlers[0][1]() is engine


def test_a_reference_that_is_sent_before_its_object():
    engine = Engine()
    sent = Sent(reference=engine.handlers[0][1], engine=engine)
    assert sent.reference() is sent.engine
    sent.run["reference"]().steps = 7
    back = sent.back()
    assert back["reference"]() is engine
    assert engine.steps == 7


def test_a_proxy():
    model = torch.nn.Linear(2, 1)
    sent = Sent(model=model, proxy=weakref.proxy(model))
    assert type(sent.proxy) is weakref.CallableProxyType
    assert sent.proxy.weight is sent.model.weight
    assert sent.back()["proxy"].weight is model.weight


def test_a_reference_to_what_is_gone():
    engine = Engine()
    reference = weakref.ref(engine)
    del engine
    gc.collect()
    assert Sent(reference=reference).reference() is None


def test_the_function_that_a_reference_calls_in_the_end():
    engine = Engine()
    sent = Sent(engine=engine, reference=weakref.ref(engine, _notice))
    assert sent.reference.__callback__ is _notice


def _notice(reference: Any) -> None:
    pass


def test_dictionaries_and_sets_of_weak_references():
    one, other = Engine(), Engine()
    by_key, by_value = weakref.WeakKeyDictionary({one: 1, other: 2}), weakref.WeakValueDictionary({"one": one})
    members = weakref.WeakSet([one])
    sent = Sent(one=one, other=other, by_key=by_key, by_value=by_value, members=members)
    assert sent.by_value["one"] is sent.one
    sent.by_key[sent.one] = 5
    del sent.by_key[sent.other]
    sent.members.add(sent.other)
    back = sent.back()
    assert (back["by_key"], back["by_value"], back["members"]) == (by_key, by_value, members)
    assert back["by_key"] is by_key
    assert dict(by_key) == {one: 5}
    assert by_value["one"] is one
    assert set(members) == {one, other}
