"""Losses, steps and rates are logged without a change to the code, and training is the same as without hooks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.optim import optimizer as optimizer_module
from torch.utils.data import DataLoader, TensorDataset

from mlnb.node.rank import frames, training_hooks
from mlnb.node.rank.log import PASSES, Metrics
from mlnb.node.rank.training_hooks import TrainingHooks


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    return Metrics(tmp_path / "rank-0.metrics")


@pytest.fixture
def hooks(metrics: Metrics) -> Iterator[TrainingHooks]:
    """Hooks in this process, removed at the end."""
    installed = TrainingHooks(metrics)
    installed.install()
    yield installed
    installed.uninstall()


def logged(metrics: Metrics, name: str = "loss") -> list[tuple[float, float]]:
    """(step, value) of one metric."""
    metrics.flush()
    assert metrics.path is not None
    points = []
    for frame, _ in frames.decode(metrics.path.read_bytes() if metrics.path.exists() else b""):
        if name in frame.names:
            points += zip(frame.columns[1], frame.columns[2 + frame.names.index(name)], strict=True)
    return points


def parameter(value: float = 1.0) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True)


def test_losses_are_logged_at_backward_and_steps_counted_at_the_optimizer(hooks: TrainingHooks, metrics: Metrics):
    weight = parameter(8.0)
    optimizer = torch.optim.SGD([weight], lr=0.25)
    for _ in range(3):
        optimizer.zero_grad()
        loss = weight * weight
        loss.backward()
        optimizer.step()
    assert logged(metrics) == [(1, 64.0), (2, 16.0), (3, 4.0)]
    assert (hooks.backwards, hooks.steps, metrics.step) == (3, 3, 3)


def test_losses_before_the_first_step_belong_to_it(hooks: TrainingHooks, metrics: Metrics):
    weight = parameter()
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for _ in range(2):
        for part in (1.0, 2.0):  # gradients accumulated
            (weight * part).backward()
        optimizer.step()
    assert logged(metrics) == [(1, 1.0), (1, 2.0), (2, 1.0), (2, 2.0)]


def test_without_an_optimizer_every_backward_is_a_step(hooks: TrainingHooks, metrics: Metrics):
    for value in (1.0, 2.0):
        (parameter() * value).backward()
    assert logged(metrics) == [(1, 1.0), (2, 2.0)]
    assert hooks.steps == 0


@pytest.mark.parametrize(("pattern", "steps"), [("DG", 1), ("DDG", 2), ("DGG", 2), ("DDDDDG", 5)])
def test_of_two_optimizers_that_take_turns_the_busiest_counts(
    hooks: TrainingHooks, metrics: Metrics, pattern: str, steps: int
):
    both = {name: torch.optim.SGD([parameter()], lr=0.1) for name in "DG"}
    for _ in range(10):
        for name in pattern:
            both[name].step()
    assert metrics.step == 10 * steps
    assert hooks.steps == 10 * steps


def test_an_optimizer_that_replaces_another_continues_the_count(hooks: TrainingHooks, metrics: Metrics):
    steps = []
    for _ in range(2):
        weight = parameter()
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(50):
            weight.square().backward()
            optimizer.step()
            steps.append(metrics.step)
    assert steps == list(range(1, 101))


def test_an_optimizer_that_continues_for_another_loses_no_step(hooks: TrainingHooks, metrics: Metrics):
    head, both = (torch.optim.SGD([parameter()], lr=0.1) for _ in range(2))
    for optimizer in (head, both):
        for _ in range(50):
            optimizer.step()
    assert metrics.step == 100


def test_the_losses_of_a_gan_are_two_curves_over_iterations(hooks: TrainingHooks, metrics: Metrics):
    critic, generator = (torch.optim.SGD([parameter()], lr=0.0) for _ in range(2))
    losses = {"g": parameter(3.0)}
    for _ in range(3):
        err_real = parameter(1.0) * 1
        err_real.backward()
        err_fake = parameter(2.0) * 1
        (err_fake / 2).backward()
        critic.step()
        losses["g"].backward()
        generator.step()
    assert logged(metrics, "err_real") == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert logged(metrics, "err_fake") == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert logged(metrics, "g") == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert logged(metrics) == []
    assert metrics.step == 3


def test_losses_that_are_differentiated_by_functions_are_logged(hooks: TrainingHooks, metrics: Metrics):
    weight = parameter(2.0)
    torch.autograd.backward(weight * 1)
    torch.autograd.backward([weight * 2])
    torch.autograd.grad(weight * 3, weight)
    torch.autograd.grad(weight * 4, weight, create_graph=True)  # a part of a loss
    assert [value for _, value in logged(metrics)] == [2.0, 4.0, 6.0]
    assert hooks.backwards == 3


def test_a_resumed_run_continues_after_its_step(hooks: TrainingHooks, metrics: Metrics):
    metrics.resume(30, 5.0)
    weight = parameter()
    weight.square().backward()
    torch.optim.SGD([weight], lr=0.1).step()
    assert logged(metrics) == [(31, 1.0)]
    assert metrics.step == 31


def test_a_scaled_loss_is_logged_unscaled(hooks: TrainingHooks, metrics: Metrics):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    first, second = parameter(2.0), parameter(3.0)
    optimizer = torch.optim.SGD([first, second], lr=0.0)
    one, two = scaler.scale(first * 1), scaler.scale(second * 1)
    one.backward()
    two.backward()
    assert first.grad == 1024.0
    scaler.step(optimizer)
    scaler.update()
    assert logged(metrics, "one") + logged(metrics, "two") == [(1, 2.0), (1, 3.0)]
    assert metrics.step == 1


def test_a_disabled_scaler_changes_nothing(hooks: TrainingHooks, metrics: Metrics):
    loss = parameter(2.0) * 1
    scaled = torch.amp.GradScaler("cpu", enabled=False).scale(loss)
    assert scaled is loss
    scaled.backward()
    assert logged(metrics) == [(1, 2.0)]


def test_a_loss_that_is_changed_in_place_later_is_logged_as_of_its_backward(hooks: TrainingHooks, metrics: Metrics):
    loss = parameter(2.0) * 1
    loss.backward()
    with torch.no_grad():
        loss += 5
    assert logged(metrics) == [(1, 2.0)]


def test_a_tensor_of_several_elements_is_not_a_loss(hooks: TrainingHooks, metrics: Metrics):
    (torch.ones(3, requires_grad=True) * 2).backward(torch.ones(3))
    assert logged(metrics) == []
    assert hooks.backwards == 1


def test_backward_does_what_it_did_before(hooks: TrainingHooks):
    a, b = parameter(2.0), parameter(3.0)
    loss = a * b
    assert loss.backward(retain_graph=True) is None
    loss.backward()
    assert (a.grad, b.grad) == (6.0, 4.0)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    a.grad = b.grad = None
    (a * b).backward(inputs=[a])
    assert a.grad == 3.0
    assert b.grad is None
    (a * b).backward(torch.tensor(10.0), inputs=a)
    assert a.grad == 33.0
    a.grad = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of a reference cycle
        a.pow(3).backward(create_graph=True)
    assert a.grad is not None
    assert a.grad.requires_grad
    with pytest.raises(RuntimeError, match="scalar"):
        (torch.ones(2, requires_grad=True) * 2).backward()


def test_an_error_in_backward_is_the_scripts_own(hooks: TrainingHooks, metrics: Metrics):
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.tensor(1.0).backward()
    assert logged(metrics) == []
    assert hooks.backwards == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_per_second_of_a_loader(
    hooks: TrainingHooks, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, workers: int
):
    now = [100.0]
    monkeypatch.setattr(training_hooks, "time", lambda: now[0])
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    metrics.flush()
    for _ in DataLoader(TensorDataset(torch.zeros(40)), batch_size=8, num_workers=workers):
        optimizer.step()
    with torch.no_grad():
        list(DataLoader(TensorDataset(torch.zeros(40)), batch_size=8))  # validation is no training
    now[0] += 2.0
    metrics.flush()
    assert logged(metrics, "samples_per_s") == [(5, 20.0)]
    assert logged(metrics, "step_time") == [(5, 0.4)]


def test_passes_over_the_training_data_are_counted_not_looks_into_it_nor_other_data(
    hooks: TrainingHooks, metrics: Metrics
):
    weight, data = parameter(), TensorDataset(torch.zeros(4))
    next(iter(DataLoader(TensorDataset(torch.ones(4)))))
    next(iter(DataLoader(data)))
    for _ in range(3):
        for _ in DataLoader(data, batch_size=2):  # a loader of its own for each epoch
            (2 * weight).backward()
        list(DataLoader(TensorDataset(torch.ones(4))))  # evaluation, though with gradients
        with torch.no_grad():
            list(DataLoader(data))
    metrics.flush()
    assert [number for _, number in logged(metrics, PASSES)] == [0, 0, 0, 1, 2]


def test_samples_are_counted_however_a_loop_ends(hooks: TrainingHooks, metrics: Metrics):
    data = TensorDataset(torch.zeros(40))
    for _ in DataLoader(data, batch_size=8):
        metrics.flush()  # while it goes on
    for _ in range(3):
        list(DataLoader(data, batch_size=8))
    for index, _ in enumerate(DataLoader(data, batch_size=8)):
        if index == 1:
            break
    persistent = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
    for _ in range(2):
        list(persistent)
    metrics.flush()
    metrics.flush()
    assert hooks.samples == 40 + 3 * 40 + 2 * 8 + 2 * 40


def test_uninstalling_restores_torch(metrics: Metrics):
    patched: list[tuple[type, str]] = [
        (torch.Tensor, "backward"),
        (torch.amp.GradScaler, "scale"),
        (DataLoader, "__iter__"),
        (torch.optim.Optimizer, "__init__"),
        (torch.optim.Optimizer, "__setstate__"),
    ]
    before = [vars(owner)[name] for owner, name in patched]
    hooks = dict(optimizer_module._global_optimizer_post_hooks)
    one = TrainingHooks(metrics)
    for _ in range(2):
        one.install()
        assert all(vars(owner)[name] is not was for (owner, name), was in zip(patched, before, strict=True))
        one.uninstall()
        assert [vars(owner)[name] for owner, name in patched] == before
        assert dict(optimizer_module._global_optimizer_post_hooks) == hooks
    parameter().square().backward()
    assert logged(metrics) == []


def test_loaders_yield_the_same_batches_as_without_hooks(hooks: TrainingHooks):
    data = torch.arange(10)
    batches = [batch.tolist() for (batch,) in DataLoader(TensorDataset(data), batch_size=4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [int(x) for x in DataLoader(list(range(3)), batch_size=None)] == [0, 1, 2]
