"""What comes back is put into the objects that are there, so that all who hold them see it."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from mlnb.api.results.merge import bind
from mlnb.node.data import objects, storages


class Memory:
    """The bulk of a stream, in memory."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []

    def storage(self, storage: Any, place: Any) -> Any:
        if isinstance(storage, tuple):
            return torch.frombuffer(bytearray(self.blobs[storage[1]]), dtype=torch.uint8).untyped_storage()
        return self.buffer(storages.view_of(storages.as_bytes(storage)))

    def buffer(self, view: Any) -> Any:
        if isinstance(view, tuple):
            return bytearray(self.blobs[view[1]])
        self.blobs.append(bytes(view))
        return ("memory", len(self.blobs) - 1)


def away(values: dict[str, Any]) -> dict[str, Any]:
    """The values as a run has them: sent through a stream, which keeps what they share."""
    memory: Any = Memory()
    stream = objects.dump(values, memory, objects.Labels(), prefix="")
    return objects.load(stream, memory, objects.Labels(), {})


def bound(namespace: dict[str, Any], values: dict[str, Any], kept: set[str] | None = None) -> dict[str, Any]:
    bind(namespace, values, frozenset(set(values) & set(namespace) if kept is None else kept))
    return namespace


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 2)).square().mean().backward()
        optimizer.step()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def net() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))


def test_a_module_is_updated_in_place():
    model = net()
    parameters = list(model.parameters())
    there = away({"model": model})
    train(there["model"], torch.optim.SGD(there["model"].parameters(), lr=0.1))
    there["model"].eval()
    namespace = bound({"model": model}, there)
    assert namespace["model"] is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert same_weights(model, there["model"])
    assert not model.training
    assert not model[0].training


def test_a_replaced_head_comes_and_the_rest_stays_itself():
    model = torch.nn.Module()
    model.body, model.fc = torch.nn.Linear(2, 3), torch.nn.Linear(3, 10)
    body, weight = model.body, model.body.weight
    there = away({"model": model})
    there["model"].fc = torch.nn.Linear(3, 2)
    there["model"].extra = torch.nn.Linear(1, 1)
    del there["model"].body.bias
    there["model"].body.register_parameter("bias", None)
    bound({"model": model}, there)
    assert model.body is body
    assert model.body.weight is weight
    assert model.body.bias is None
    assert model.fc.out_features == 2
    assert model.fc.weight.shape == (2, 3)
    assert [name for name, _ in model.named_children()] == ["body", "fc", "extra"]


def test_frozen_parameters_are_frozen_here():
    model = net()
    there = away({"model": model})
    for parameter in there["model"][0].parameters():
        parameter.requires_grad_(False)
    bound({"model": model}, there)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]


def test_a_module_of_another_class_is_another_object():
    model = net()
    new = torch.nn.Linear(2, 2)
    assert bound({"model": model}, {"model": new})["model"] is new


def test_an_optimizer_goes_on_here_as_it_would_have_there():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    there = away({"model": model, "optimizer": optimizer})
    train(there["model"], there["optimizer"])
    reference = away(there)
    namespace = bound({"model": model, "optimizer": optimizer}, there)
    assert namespace["optimizer"] is optimizer
    held = optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    assert set(map(id, optimizer.state)) == set(map(id, model.parameters()))
    train(model, optimizer)
    train(reference["model"], reference["optimizer"])
    assert same_weights(model, reference["model"])


def test_a_scheduler_drives_the_optimizer_that_is_here():
    optimizer = torch.optim.SGD(net().parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    there = away({"optimizer": optimizer, "scheduler": scheduler})
    there["optimizer"].step()
    there["scheduler"].step()
    namespace = bound({"optimizer": optimizer, "scheduler": scheduler}, there)
    assert namespace["scheduler"] is scheduler
    assert scheduler.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_scheduler_that_came_without_its_optimizers_name_drives_the_one_here():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    there = away({"model": model, "optimizer": optimizer})
    there["scheduler"] = torch.optim.lr_scheduler.StepLR(there["optimizer"], 1, gamma=0.5)
    namespace = bound({"model": model, "optimizer": optimizer}, there)
    assert namespace["scheduler"].optimizer is optimizer


def test_a_new_optimizer_of_a_model_that_is_here_refers_to_its_parameters():
    model = net()
    there = away({"model": model})
    there["optimizer"] = torch.optim.Adam(
        [{"params": there["model"][0].parameters()}, {"params": there["model"][2].parameters(), "lr": 0.1}]
    )
    train(there["model"], there["optimizer"])
    reference = away(there)
    namespace = bound({"model": model}, there)
    optimizer = namespace["optimizer"]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    live = [*model[0].parameters(), *model[2].parameters()]
    assert all(a is b for a, b in zip(held, live, strict=True))
    assert all(any(key is p for p in live) for key in optimizer.state)
    train(model, optimizer)
    train(reference["model"], reference["optimizer"])
    assert same_weights(model, reference["model"])


class Pair(NamedTuple):
    one: Any
    other: Any


def test_whatever_new_refers_to_something_here_refers_to_it_itself():
    model = net()
    there = away({"model": model})
    m = there["model"]
    there |= {"items": [m], "pair": Pair(m, 1), "table": {"m": (m, [m[0]])}, "line": deque([m]), "by": {m: 1}}
    holder = type("Holder", (), {})()
    holder.model, holder.me = m, holder
    there["holder"] = holder
    namespace = bound({"model": model}, there)
    assert namespace["items"][0] is model
    assert type(namespace["pair"]) is Pair
    assert namespace["pair"].one is model
    assert namespace["table"]["m"][0] is model
    assert namespace["table"]["m"][1][0] is model[0]
    assert namespace["line"][0] is model
    assert next(iter(namespace["by"])) is model
    assert namespace["holder"].model is model
    assert namespace["holder"].me is namespace["holder"]


def test_a_module_that_took_another_in_refers_to_the_one_here():
    backbone = net()
    there = away({"backbone": backbone})
    there["whole"] = torch.nn.Sequential(there["backbone"], torch.nn.Linear(1, 1))
    namespace = bound({"backbone": backbone}, there)
    assert namespace["whole"][0] is backbone


@pytest.mark.parametrize(
    ("live", "new"),
    [
        ([1, 2], [3]),
        ({"a": 1}, {"b": [2]}),
        ({1, 2}, {3}),
        (deque([1], maxlen=3), deque([2, 3], maxlen=3)),
        (bytearray(b"a"), bytearray(b"bc")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers_are_changed_in_place(live: Any, new: Any):
    alias = live
    namespace = bound({"x": live}, {"x": copy.copy(new)})
    assert namespace["x"] is alias
    assert alias == new


def test_names_of_one_object_stay_names_of_one_object():
    items: list[int] = [1]
    there = away({"a": items, "b": items})
    there["a"].append(2)
    namespace = bound({"a": items, "b": items}, there)
    assert namespace["a"] is namespace["b"] is items
    assert items == [1, 2]


def test_arrays_are_changed_in_place_where_they_fit():
    array = np.zeros(3)
    view = array[1:]
    assert bound({"x": array}, {"x": np.arange(3.0)})["x"] is array
    assert view.tolist() == [1.0, 2.0]
    assert bound({"x": array}, {"x": np.arange(4.0)})["x"].shape == (4,)
    assert bound({"x": array}, {"x": np.arange(3)})["x"].dtype.kind == "i"


def test_tensors_keep_their_identity():
    live = torch.zeros(3)
    assert bound({"x": live}, {"x": torch.arange(3.0)})["x"] is live
    assert live.tolist() == [0.0, 1.0, 2.0]
    assert bound({"x": live}, {"x": torch.arange(5.0)})["x"] is live
    assert live.shape == (5,)


def test_frames_are_replaced():
    live, new = pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})
    assert bound({"x": live}, {"x": new})["x"] is new


class Trainer:
    """An object of the user's that holds the others."""

    def __init__(self) -> None:
        self.model, self.history = net(), [0.5]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)


def test_objects_of_the_users_are_changed_in_place():
    trainer = Trainer()
    model, optimizer = trainer.model, trainer.optimizer
    there = away({"trainer": trainer})
    train(there["trainer"].model, there["trainer"].optimizer)
    there["trainer"].history.append(0.25)
    there["trainer"].best = there["trainer"].model
    namespace = bound({"trainer": trainer}, there)
    assert namespace["trainer"] is trainer
    assert trainer.model is model is trainer.best
    assert trainer.optimizer is optimizer
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    assert trainer.history == [0.5, 0.25]
    assert same_weights(model, there["trainer"].model)


def test_what_is_not_kept_is_bound_anew():
    old, new = [1], [2]
    namespace = bound({"x": old}, {"x": new}, set())
    assert namespace["x"] is new
    assert old == [1]


@pytest.mark.parametrize("value", [1, "text", None, 2.5, (1, 2), frozenset({1}), range(3)], ids=str)
def test_plain_values_are_bound(value: Any):
    assert bound({"x": 0}, {"x": value})["x"] == value
    assert bound({}, {"x": value})["x"] == value
