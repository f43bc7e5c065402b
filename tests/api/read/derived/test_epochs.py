"""The table of epochs: the mean of each metric and the duration, as the run goes on."""

from __future__ import annotations

import numpy as np
import pytest

from mlnb.api.read.cursor import SeriesCursor
from mlnb.api.read.derived.epochs import EPOCH, SECONDS, Epochs
from mlnb.api.read.history import Series
from mlnb.node.rank.log import EPOCHS, PASSES, PROGRESS

Points = list[tuple[float, float, float]]


def series(points: Points, generation: int = 0, stable: int | None = None) -> Series:
    times, steps, values = np.array(points, dtype=float).reshape(-1, 3).T
    count = len(points) if stable is None else stable
    return Series(times, steps, values, np.ones(len(points), dtype=np.int16), generation, count)


def trained(until: int, per_epoch: int = 10) -> Points:
    """Time, step and loss: a step a second, whose loss is its number."""
    return [(float(step), float(step), float(step)) for step in range(1, until + 1)]


def progress(done: int, count: int, per_epoch: int = 10) -> dict[str, Series]:
    rows: Points = [(epoch * per_epoch + 0.5, epoch * per_epoch, epoch / count) for epoch in range(done + 1)]
    return {EPOCHS: series([(0.5, 0, count)]), PROGRESS: series(rows)}


def values(found: dict[str, Series], name: str) -> dict[float, float]:
    return dict(zip(found[name].step.tolist(), found[name].value.tolist(), strict=True))


def test_each_epoch_has_means_and_a_duration_and_the_one_that_runs_has_means_so_far():
    epochs = Epochs()
    found = epochs.series({"loss": series(trained(24)), **progress(2, 4)})
    assert values(found, EPOCH + "loss") == {0: 5.5, 1: 15.5, 2: 22.5}
    assert values(found, SECONDS) == {0: 10, 1: 10}


def test_what_is_logged_once_an_epoch_is_its_value_whatever_its_steps():
    at_ends = [(10.4, 10.0, 0.5), (20.4, 20.0, 0.25)]
    by_number = [(10.4, 0.0, 0.7), (20.4, 1.0, 0.8)]
    late = [(10.6, 10.0, 3.0), (20.6, 20.0, 4.0)]  # by a rank for which others have waited
    found = Epochs().series(
        {
            "loss": series(trained(20)),
            "val_loss": series(at_ends),
            "acc": series(by_number),
            "late": series(late),
            **progress(2, 2),
        }
    )
    assert values(found, EPOCH + "loss") == {0: 5.5, 1: 15.5}
    assert values(found, EPOCH + "val_loss") == {0: 0.5, 1: 0.25}
    assert values(found, EPOCH + "acc") == {0: 0.7, 1: 0.8}
    assert values(found, EPOCH + "late") == {0: 3, 1: 4}


def test_an_epoch_without_a_value_has_none():
    found = Epochs().series({"loss": series(trained(30)), "acc": series([(25, 25, 0.5)]), **progress(3, 3)})
    assert values(found, EPOCH + "acc") == {2: 0.5}


@pytest.mark.parametrize("stride", [1, 3, 7])
def test_read_while_it_runs_it_is_the_same_as_read_at_the_end(stride: int):
    epochs, cursor = Epochs(), SeriesCursor()
    seen: dict[str, list[tuple[float, float]]] = {}
    for until in [*range(1, 51, stride), 50]:
        done = until // 10
        every = {"loss": series(trained(until), stable=max(0, until - 2)), **progress(done, 5)}
        found = epochs.series(every)
        assert all(epochs.series(every)[name] is made for name, made in found.items())
        for update in cursor.new(found):
            held = seen.setdefault(update.metric, [])
            held[update.offset :] = list(zip(update.steps.tolist(), update.values.tolist(), strict=True))
    whole = Epochs().series({"loss": series(trained(50)), **progress(5, 5)})
    for name, expected in whole.items():
        assert [step for step, _ in seen[name]] == expected.step.tolist()
        assert [value for _, value in seen[name]] == pytest.approx(expected.value.tolist())


def test_an_epoch_that_was_interrupted_counts_the_time_in_which_it_ran():
    loss = [*trained(15), *((float(step + 100), float(step), float(step)) for step in range(16, 21))]
    rows: Points = [(0.5, 0, 0), (10.5, 10, 0.5), (115.0, 15, 0.5), (120.5, 20, 1)]
    found = Epochs().series({"loss": series(loss), EPOCHS: series([(0.5, 0, 2)]), PROGRESS: series(rows)})
    assert values(found, EPOCH + "loss") == {0: 5.5, 1: 15.5}
    assert values(found, SECONDS) == {0: 10, 1: 10}


def test_a_resume_that_takes_points_back_starts_anew():
    epochs = Epochs()
    epochs.series({"loss": series(trained(20)), **progress(2, 2)})
    every = {"loss": series([(t, s, -v) for t, s, v in trained(15)], generation=1), **progress(1, 2)}
    assert values(epochs.series(every), EPOCH + "loss") == {0: -5.5, 1: -13}


def test_without_mlnb_epochs_they_are_the_passes_over_the_data():
    passes = series([(0.1, 0, 0), (0.5, 0, 0), (10.5, 10, 1), (20.5, 20, 2)])
    found = Epochs().series({"loss": series(trained(25)), PASSES: passes})
    assert values(found, EPOCH + "loss") == {0: 5.5, 1: 15.5, 2: 23}
    assert values(found, SECONDS) == {0: 10, 1: 10}


def test_where_no_epochs_are_known_there_are_none():
    assert Epochs().series({"loss": series(trained(5))}) == {}
    assert Epochs().series({}) == {}
    none = {EPOCHS: series([(0.5, 0, 0)]), PROGRESS: series([(0.5, 0, 1)])}
    assert Epochs().series({"loss": series(trained(5)), **none}) == {}
