"""What comes back is put into the objects that are there, so that all who hold them see it."""

from __future__ import annotations

import array
import copy
import dataclasses
import datetime
import decimal
import functools
import io
import random
import re
import zoneinfo
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.utils import parametrize

from tests.api.results.returning import Sent

Linear = torch.nn.Linear


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 2)).square().mean().backward()
        optimizer.step()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def net() -> torch.nn.Sequential:
    return torch.nn.Sequential(Linear(2, 3), torch.nn.BatchNorm1d(3), Linear(3, 1))


def expected(*values: Any) -> Any:
    """Copies of values, that a test trains in this process to compare."""
    return copy.deepcopy(values)


# modules


def test_a_module_is_updated_in_place():
    model = net()
    parameters = list(model.parameters())
    sent = Sent(model=model)
    train(sent.model, torch.optim.SGD(sent.model.parameters(), lr=0.1))
    sent.model.eval()
    assert sent.back()["model"] is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert same_weights(model, sent.model)
    assert not model.training
    assert not model[0].training


def test_a_head_that_another_model_shares_stays_when_the_cell_replaces_it():
    head = Linear(3, 2)
    student, teacher = torch.nn.Sequential(Linear(3, 3), head), torch.nn.Sequential(Linear(3, 3), head)
    weight = head.weight.detach().clone()
    body = student[0]
    sent = Sent(student=student)
    sent.student[1] = Linear(3, 2)
    torch.nn.init.zeros_(sent.student[1].weight)
    sent.back()
    assert torch.equal(head.weight, weight)
    assert teacher[1] is head
    assert student[0] is body
    assert student[1] is not head
    assert (student[1].weight == 0).all()


def test_a_replaced_head_comes_and_the_rest_stays_itself():
    model = torch.nn.Module()
    model.body, model.fc = Linear(2, 3), Linear(3, 10)
    body, weight = model.body, model.body.weight
    sent = Sent(model=model)
    sent.model.fc = Linear(3, 2)
    sent.model.extra = Linear(1, 1)
    del sent.model.body.bias
    sent.model.body.register_parameter("bias", None)
    sent.back()
    assert model.body is body
    assert model.body.weight is weight
    assert model.body.bias is None
    assert model.fc.weight.shape == (2, 3)
    assert [name for name, _ in model.named_children()] == ["body", "fc", "extra"]


def test_frozen_parameters_are_frozen_here():
    model = net()
    sent = Sent(model=model)
    for parameter in sent.model[0].parameters():
        parameter.requires_grad_(False)
    sent.back()
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]


def test_a_name_that_the_cell_binds_to_another_object_is_bound_to_another_object():
    model = net()
    before = expected(model)[0]
    sent = Sent(model=model)
    sent.run["model"] = net()
    assert sent.back()["model"] is not model
    assert same_weights(model, before)


def test_an_object_that_got_another_class_stays_the_same_object():
    holder = Holder(x=1)
    sent = Sent(items=[holder])
    sent.run["items"][0].__class__ = Point
    sent.run["items"][0].y = 2
    assert sent.back()["items"][0] is holder
    assert holder == Point(1, 2)


class Squared(torch.nn.Module):
    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value.square()


@pytest.mark.parametrize("before", [(), ("bias",)])
def test_a_module_that_the_cell_parametrizes_stays_the_same_module(before: tuple[str, ...]):
    layer = Linear(2, 1)
    for name in before:
        parametrize.register_parametrization(layer, name, Squared())
    weight, model = layer.weight, torch.nn.Sequential(layer)
    sent = Sent(model=model)
    parametrize.register_parametrization(sent.model[0], "weight", Squared())
    sent.model(torch.ones(1, 2)).backward()
    sent.back()
    assert model[0] is layer
    assert parametrize.is_parametrized(layer, "weight")
    assert layer.parametrizations.weight.original is weight
    torch.testing.assert_close(layer.weight, weight.square())
    parametrize.remove_parametrizations(layer, "weight")
    assert parametrize.is_parametrized(layer) == bool(before)
    assert layer.weight is weight


# optimizers and schedulers


def test_an_optimizer_goes_on_here_as_it_would_have_there():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    sent = Sent(model=model, optimizer=optimizer)
    train(sent.model, sent.optimizer)
    other, its = expected(sent.model, sent.optimizer)
    assert sent.back()["optimizer"] is optimizer
    held = optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    assert set(map(id, optimizer.state)) == set(map(id, model.parameters()))
    train(model, optimizer)
    train(other, its)
    assert same_weights(model, other)


def test_a_scheduler_drives_the_optimizer_that_is_here():
    optimizer = torch.optim.SGD(net().parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    sent = Sent(optimizer=optimizer, scheduler=scheduler)
    sent.optimizer.step()
    sent.scheduler.step()
    assert sent.back()["scheduler"] is scheduler
    assert scheduler.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_new_scheduler_drives_the_optimizer_that_is_here():
    optimizer = torch.optim.SGD(net().parameters(), lr=1.0)
    sent = Sent(optimizer=optimizer)
    sent.run["scheduler"] = torch.optim.lr_scheduler.StepLR(sent.optimizer, 1, gamma=0.5)
    assert sent.back()["scheduler"].optimizer is optimizer


def test_a_new_optimizer_of_a_model_that_is_here_refers_to_its_parameters():
    model = net()
    sent = Sent(model=model)
    sent.run["optimizer"] = torch.optim.Adam(
        [{"params": sent.model[0].parameters()}, {"params": sent.model[2].parameters(), "lr": 0.1}]
    )
    train(sent.model, sent.optimizer)
    other, its = expected(sent.model, sent.optimizer)
    optimizer = sent.back()["optimizer"]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    live = [*model[0].parameters(), *model[2].parameters()]
    assert all(a is b for a, b in zip(held, live, strict=True))
    assert all(any(key is p for p in live) for key in optimizer.state)
    train(model, optimizer)
    train(other, its)
    assert same_weights(model, other)


def test_models_and_optimizers_in_containers_are_updated_in_place():
    nets = {"a": Linear(2, 1), "b": Linear(2, 1)}
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.1) for model in nets.values()]
    first, first_optimizer = nets["a"], optimizers[0]
    before = first.weight.detach().clone()
    sent = Sent(nets=nets, optimizers=optimizers)
    for model, optimizer in zip(sent.nets.values(), sent.optimizers, strict=True):
        train(model, optimizer)
    sent.nets["a"].eval()
    sent.back()
    assert not torch.equal(first.weight, before)
    assert not first.training
    assert nets["a"] is first
    assert optimizers[0] is first_optimizer
    assert first_optimizer.state[first.weight]["step"] == 3


def test_a_handle_removes_the_hook_of_the_model_that_is_here():
    model = Linear(2, 1)
    handle = model.register_forward_hook(print)
    sent = Sent(model=model, handle=handle)
    sent.model.eval()
    assert sent.back()["handle"] is handle
    assert list(model._forward_hooks.values()) == [print]
    handle.remove()
    assert not model._forward_hooks


# what is new


class Pair(NamedTuple):
    one: Any
    other: Any


class Holder:
    """An object of a person's class."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def test_whatever_new_refers_to_something_here_refers_to_it_itself():
    model = net()
    sent = Sent(model=model)
    m = sent.model
    holder = Holder(model=m)
    holder.me = holder
    sent.run |= {"items": [m], "pair": Pair(m, 1), "table": {"m": (m, [m[0]])}, "line": deque([m]), "by": {m: 1}}
    sent.run |= {"holder": holder, "cut": functools.partial(print, m), "group": frozenset({m}), "call": m.eval}
    sent.run["cells"] = np.array([m, None], dtype=object)
    back = sent.back()
    assert back["items"][0] is model
    assert type(back["pair"]) is Pair
    assert back["pair"].one is model
    assert back["table"]["m"][0] is model
    assert back["table"]["m"][1][0] is model[0]
    assert back["line"][0] is model
    assert next(iter(back["by"])) is model
    assert back["holder"].model is model
    assert back["holder"].me is back["holder"]
    assert back["cut"].args[0] is model
    assert back["group"] == {model}
    assert back["call"].__self__ is model
    assert back["cells"][0] is model


def test_a_module_that_took_another_in_refers_to_the_one_here():
    backbone = net()
    sent = Sent(backbone=backbone)
    sent.run["whole"] = torch.nn.Sequential(sent.backbone, Linear(1, 1))
    assert sent.back()["whole"][0] is backbone


def test_the_old_object_stays_as_it_was_when_the_cell_puts_another_in_its_place():
    old, box = [1], {}
    box["items"] = old
    sent = Sent(box=box)
    sent.box["items"] = [2]
    sent.back()
    assert box == {"items": [2]}
    assert old == [1]


# containers and objects


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(slots=True)
class SlotPoint:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    items: list[Any]


class Slots:
    __slots__ = ("a", "b")


class Tagged(dict[str, Any]):
    note = "-"


class AttributeDict(dict[str, Any]):
    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__ = self


class Shared:
    """All objects have the same attributes, which the class holds."""

    _state: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        self.__dict__ = self._state
        self._state.clear()
        self._state.update(values)


class Settings(dict[str, Any]):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Proxy:
    """Passes on what it doesn't have; asked before its state is set, it would ask itself for ever."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Selected:
    """Doesn't send its lock."""

    def __init__(self) -> None:
        self.lock, self.count = object(), 0

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count}


class Recipe:
    """Is made again by its constructor."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def __reduce__(self) -> Any:
        return Recipe, ([*self.steps],)


def node_list(*values: Any) -> Holder | None:
    head = None
    for value in reversed(values):
        head = Holder(value=value, next=head)
    return head


def slots(**values: Any) -> Slots:
    made = Slots()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def change_slots(value: Slots) -> None:
    value.b = [2]
    del value.a


CHANGES: dict[str, tuple[Any, Any, Any]] = {
    "list": (lambda: [1, 2], lambda v: v.append(3), lambda v: v == [1, 2, 3]),
    "dict": (lambda: {"a": 1}, lambda v: v.update(b=2), lambda v: list(v.items()) == [("a", 1), ("b", 2)]),
    "reordered": (lambda: {"a": 1, "b": 2}, lambda v: v.update(a=v.pop("a")), lambda v: list(v) == ["b", "a"]),
    "set": (lambda: {1}, lambda v: v.add(2), lambda v: v == {1, 2}),
    "bytearray": (lambda: bytearray(b"a"), lambda v: v.extend(b"b"), lambda v: v == b"ab"),
    "deque": (lambda: deque([1], maxlen=2), lambda v: v.extend([2, 3]), lambda v: list(v) == [2, 3]),
    "defaultdict": (lambda: defaultdict(list), lambda v: v["a"].append(1), lambda v: v["a"] == [1] and v["b"] == []),
    "ordered": (lambda: OrderedDict(a=1, b=2), lambda v: v.move_to_end("a"), lambda v: list(v) == ["b", "a"]),
    "counter": (lambda: Counter("ab"), lambda v: v.update("a"), lambda v: v["a"] == 2),
    "user dict": (lambda: UserDict(a=1), lambda v: v.update(b=2), lambda v: dict(v) == {"a": 1, "b": 2}),
    "array": (lambda: array.array("d", [1.0]), lambda v: v.append(2.0), lambda v: list(v) == [1.0, 2.0]),
    "object": (lambda: Holder(a=1, b=2), lambda v: vars(v).pop("a"), lambda v: vars(v) == {"b": 2}),
    "emptied": (lambda: Holder(a=1), lambda v: vars(v).clear(), lambda v: vars(v) == {}),
    "slots": (lambda: slots(a=1), change_slots, lambda v: v.b == [2] and not hasattr(v, "a")),
    "dataclass": (lambda: Point(1), lambda v: setattr(v, "y", 5), lambda v: v == Point(1, 5)),
    "dataclass with slots": (lambda: SlotPoint(1), lambda v: setattr(v, "y", 5), lambda v: v == SlotPoint(1, 5)),
    "frozen": (lambda: Frozen([1]), lambda v: v.items.append(2), lambda v: v == Frozen([1, 2])),
    "tagged": (lambda: Tagged(a=1), lambda v: setattr(v, "note", "y"), lambda v: v.note == "y" and v == {"a": 1}),
    "own dict": (lambda: AttributeDict(a=1), lambda v: setattr(v, "b", 2), lambda v: v["b"] == 2 and vars(v) is v),
    "shared": (lambda: Shared(a=1), lambda v: setattr(v, "b", 2), lambda v: vars(v) == {"a": 1, "b": 2}),
    "settings": (lambda: Settings(a=1), lambda v: setattr(v, "b", 2), lambda v: v == {"a": 1, "b": 2}),
    "proxy": (lambda: Proxy([1]), lambda v: v.append(2), lambda v: v.inner == [1, 2]),
    "recipe": (lambda: Recipe([1]), lambda v: v.steps.append(2), lambda v: v.steps == [1, 2]),
    "text": (io.StringIO, lambda v: v.write("hello"), lambda v: v.getvalue() == "hello"),
    "random": (lambda: random.Random(1), lambda v: v.seed(7), lambda v: v.random() == random.Random(7).random()),
    "generator": (
        lambda: np.random.default_rng(1),
        lambda v: v.random(),
        lambda v: v.random() == np.random.default_rng(1).random(2)[1],
    ),
    "torch generator": (
        lambda: torch.Generator().manual_seed(1),
        lambda v: v.manual_seed(2),
        lambda v: v.initial_seed() == 2,
    ),
    "tensor": (lambda: torch.zeros(3), lambda v: v.add_(1), lambda v: v.tolist() == [1.0] * 3),
    "resized tensor": (lambda: torch.zeros(3), lambda v: v.set_(torch.ones(5)), lambda v: v.tolist() == [1.0] * 5),
    "numpy": (lambda: np.zeros(3), lambda v: v.fill(1), lambda v: v.tolist() == [1.0] * 3),
    "resized numpy": (lambda: np.zeros(2), lambda v: setattr(v, "shape", (2, 1)), lambda v: v.shape == (2, 1)),
    "objects": (lambda: np.array([None, 1]), lambda v: v.__setitem__(0, "x"), lambda v: v.tolist() == ["x", 1]),
    "frame": (lambda: pd.DataFrame({"a": [1]}), lambda v: v.insert(1, "b", 2), lambda v: v["b"].tolist() == [2]),
    "series": (lambda: pd.Series([1, 2]), lambda v: v.__setitem__(0, 5), lambda v: v.tolist() == [5, 2]),
    "module": (lambda: Linear(1, 1), lambda v: torch.nn.init.zeros_(v.weight), lambda v: v.weight.item() == 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_cell_changes_in_place_is_changed_in_place_under_every_alias(name: str):
    make, change, is_changed = CHANGES[name]
    value = make()
    held = Holder(value=value)
    sent = Sent(value=value, box={"value": value, "deep": [(value,)]}, held=held)
    change(sent.value)
    copies = sent.copies()
    back = sent.back()
    assert back["value"] is back["box"]["value"] is back["box"]["deep"][0][0] is held.value is value
    assert is_changed(value)
    assert copies["value"] is copies["box"]["value"] is not value
    assert is_changed(copies["value"])


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_one_place_is_seen_under_names_that_did_not_come_back(name: str):
    make, change, is_changed = CHANGES[name]
    value = make()
    sent = Sent(value=value, box=[value])
    change(sent.value)
    sent.back("box")
    assert is_changed(value)


def test_what_a_class_does_not_send_stays():
    selected = Selected()
    lock = selected.lock
    sent = Sent(selected=selected)
    sent.selected.count = 3
    sent.back()
    assert selected.lock is lock
    assert selected.count == 3


@pytest.mark.parametrize(
    "value",
    [
        (1, "a"),
        frozenset({1}),
        Pair(1, 2),
        decimal.Decimal("1.5"),
        re.compile("a+"),
        zoneinfo.ZoneInfo("UTC"),
        datetime.date(2026, 1, 2),
        np.float64(1.5),
        pd.Index(["a"]),
        Frozen([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_cell_leaves_as_it_was_is_the_same_object(value: Any):
    box = {"value": value, "count": 0}
    sent = Sent(box=box)
    sent.box["count"] = 1
    sent.box["again"] = sent.box["value"]
    sent.back()
    assert box["value"] is value
    assert box["again"] is value


def test_a_tuple_around_something_that_was_replaced_is_a_new_tuple():
    inner = [1]
    pair = (inner, "x")
    box = {"pair": pair}
    sent = Sent(box=box)
    sent.box["pair"] = ([2], "x")
    sent.box["same"] = sent.box["pair"]
    sent.back()
    assert box["pair"] == ([2], "x")
    assert box["pair"] is box["same"]
    assert pair == ([1], "x")


def test_views_of_an_array_see_the_new_values():
    values = np.zeros(3)
    view = values[:2]
    sent = Sent(values=values)
    sent.values[:] = [1, 2, 3]
    sent.back()
    assert view.tolist() == [1.0, 2.0]


def test_arrays_of_derived_classes_and_of_objects_keep_their_memory(tmp_path: Path):
    file = tmp_path / "data.bin"
    mapped = np.memmap(file, dtype="float32", mode="w+", shape=(4,))
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, False, True])
    mixed = np.array([1, "a", None], dtype=object)
    masked_view, mixed_view = masked.data, mixed[:2]
    sent = Sent(values=[mapped, masked, mixed])
    sent.values[0][1:] = 5
    sent.values[1][0] = 7
    sent.values[1].mask[1] = True
    sent.values[2][0] = "new"
    back = sent.back()["values"]
    assert all(one is other for one, other in zip(back, [mapped, masked, mixed], strict=True))
    assert np.fromfile(file, "float32").tolist() == [0, 5, 5, 5]
    assert masked_view.tolist() == [7, 2, 3]
    assert masked.mask.tolist() == [False, True, True]
    assert mixed_view.tolist() == ["new", "a"]


def test_dictionaries_keyed_by_modules_and_linked_objects():
    model = net()
    rates = {model[0]: 0.1, model[2]: 0.2}
    nodes = node_list(model, 1, 2)
    sent = Sent(model=model, rates=rates, nodes=nodes)
    sent.rates[sent.model[0]] = 0.5
    sent.nodes.next.next.value = 7
    sent.nodes.next.next.next = sent.nodes
    sent.back()
    assert rates == {model[0]: 0.5, model[2]: 0.2}
    assert nodes is not None
    assert nodes.value is model
    assert nodes.next.next.value == 7
    assert nodes.next.next.next is nodes


def test_names_of_one_object_stay_names_of_one_object():
    items: list[int] = [1]
    sent = Sent(a=items, b=items)
    sent.a.append(2)
    back = sent.back()
    assert back["a"] is back["b"] is items
    assert items == [1, 2]


def test_objects_of_a_persons_class_are_changed_in_place():
    model = net()
    trainer = Holder(model=model, history=[0.5], optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    optimizer, history = trainer.optimizer, trainer.history
    sent = Sent(trainer=trainer)
    train(sent.trainer.model, sent.trainer.optimizer)
    sent.trainer.history.append(0.25)
    sent.trainer.best = sent.trainer.model
    assert sent.back()["trainer"] is trainer
    assert trainer.model is model is trainer.best
    assert trainer.optimizer is optimizer
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    assert trainer.history is history
    assert history == [0.5, 0.25]
    assert same_weights(model, sent.trainer.model)


def test_containers_in_themselves():
    items: list[Any] = [1]
    items.append(items)
    table: dict[str, Any] = {"pair": (items,)}
    items.append(table)
    sent = Sent(items=items)
    sent.items[2]["pair"][0].append([sent.items[2]["pair"]])
    copies = sent.copies()["items"]
    sent.back()
    assert items[1] is items
    assert items[2] is table
    assert items[3][0] is table["pair"]
    assert table["pair"][0] is items
    assert copies[1] is copies
    assert copies[3][0] is copies[2]["pair"]


def test_a_long_linked_list_comes_and_goes():
    nodes = node_list(*range(20_000))
    sent = Sent(nodes=nodes)
    sent.nodes.next.value = "second"
    sent.back()
    assert nodes is not None
    assert nodes.next.value == "second"
    count, node = 0, nodes
    while node is not None:
        node, count = node.next, count + 1
    assert count == 20_000


@pytest.mark.parametrize("value", [1, "text", None, 2.5, (1, 2), frozenset({1}), range(3)], ids=str)
def test_plain_values_are_bound(value: Any):
    sent = Sent(x=0)
    sent.run["x"] = value
    assert sent.back()["x"] == value


class Fragile:
    """Can be loaded into a new object only."""

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: dict[str, Any]) -> None:
        if vars(self) or Fragile.is_broken:
            raise RuntimeError("not now")
        vars(self).update(state)

    is_broken = False


def test_a_class_that_can_be_loaded_into_a_new_object_only():
    fragile = Fragile()
    fragile.extra = 1  # type: ignore[attr-defined]
    sent = Sent(fragile=fragile)
    sent.fragile.value = 2
    sent.back()
    assert fragile.value == 2


def test_an_exception_comes_back_whatever_its_constructor_takes():
    class_ = Diverged
    sent = Sent(x=1)
    try:
        try:
            raise ValueError("first")
        except ValueError as error:
            raise class_(3, 2.0) from error
    except class_ as error:
        sent.run["problem"] = error
    sent.run["missing"] = FileNotFoundError(2, "No such file", "data.csv")
    sent.run["text"] = UnicodeDecodeError("utf-8", b"\\xff", 0, 1, "invalid")
    back = sent.back()
    problem = back["problem"]
    assert type(problem) is class_
    assert problem.step == 3
    assert str(problem) == "step 3: 2.0"
    assert isinstance(problem.__cause__, ValueError)
    assert (back["missing"].filename, back["missing"].errno) == ("data.csv", 2)
    assert back["text"].reason == "invalid"


class Diverged(Exception):
    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"step {step}: {value}")
        self.step = step


class OwnDictionary(torch.nn.Module):
    """A module that sends the dictionary of its attributes itself, and takes over the one that it gets."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.layer, self.scale, self.seen = Linear(2, 1), scale, [scale]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state


class MadeAnew(OwnDictionary):
    """As above, and made by a call whose arguments change."""

    def __reduce__(self) -> Any:
        return _made, (self.scale,), self.__getstate__()


def _made(scale: float) -> MadeAnew:
    return MadeAnew(scale=scale)


@pytest.mark.parametrize("kind", [OwnDictionary, MadeAnew])
def test_an_object_whose_class_takes_over_the_dictionary_that_it_gets(kind: type[OwnDictionary]):
    module = kind()
    holder, weight = torch.nn.Sequential(module), module.layer.weight
    sent = Sent(holder=holder, module=module)
    sent.module.scale, sent.module.added = 2.0, 7
    sent.module.seen.append(2.0)
    with torch.no_grad():
        sent.module.layer.weight.fill_(3.0)
    back = sent.back()
    assert back["module"] is module
    assert holder[0] is module
    assert (module.scale, module.seen, module.added) == (2.0, [1.0, 2.0], 7)
    assert module.layer.weight is weight
    assert weight.detach().tolist() == [[3.0, 3.0]]
