"""A reader that applies each update to what it holds has what the run has logged, whatever happened meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlnb.api.read.cursor import SeriesCursor, SeriesUpdate
from mlnb.api.read.history import History
from mlnb.node.rank import frames
from mlnb.node.rank.log import RESUMED
from mlnb.rundir import RunDir


def write(run: RunDir, steps: list[int], values: list[float], *, attempt=1, rank=0, name="loss") -> None:
    files = run.attempt(attempt)
    files.path.mkdir(parents=True, exist_ok=True)
    files.stdout(rank).touch()
    with files.metrics(rank).open("ab") as file:
        file.write(frames.encode([name], [100.0 + step for step in steps], steps, [values]))


class Reader:
    """Holds points as the documentation says: ``held[offset:] = new``."""

    def __init__(self, run: RunDir, pixels: int | None = None) -> None:
        self.history, self.cursor = History(run), SeriesCursor(pixels)
        self.held: dict[str, list[tuple[float, float, float]]] = {}

    def look(self, *, settled: bool = False) -> list[SeriesUpdate]:
        updates = self.cursor.new(self.history.read(), settled=settled)
        for one in updates:
            points = self.held.setdefault(one.metric, [])
            assert one.offset <= len(points), "a gap"
            points[one.offset :] = zip(one.times.tolist(), one.steps.tolist(), one.values.tolist(), strict=True)
        return updates

    def logged(self, name: str = "loss") -> list[tuple[float, float, float]]:
        one = self.history.read()[name]
        return list(zip(one.time.tolist(), one.step.tolist(), one.value.tolist(), strict=True))


def test_each_point_comes_once(tmp_path: Path):
    run = RunDir(tmp_path)
    reader = Reader(run)
    write(run, [1, 2], [0.5, 0.25])
    (first,) = reader.look()
    assert (first.metric, first.offset, first.total) == ("loss", 0, 2)
    assert (first.times.tolist(), first.steps.tolist(), first.values.tolist()) == ([101, 102], [1, 2], [0.5, 0.25])
    assert reader.look() == []
    write(run, [3], [0.125])
    write(run, [3], [0.9], name="accuracy")
    second = {one.metric: (one.offset, one.steps.tolist()) for one in reader.look()}
    assert second == {"loss": (2, [3]), "accuracy": (0, [3])}


def test_points_that_one_of_the_ranks_has_not_reported_are_replaced_or_waited_for(tmp_path: Path):
    run = RunDir(tmp_path)
    eager, settled = Reader(run), Reader(run)
    write(run, [1, 2, 3], [1.0, 1.0, 1.0], rank=0)
    write(run, [1], [3.0], rank=1)
    eager.look()
    settled.look(settled=True)
    assert [value for _, _, value in eager.held["loss"]] == [2.0, 1.0, 1.0]
    assert [value for _, _, value in settled.held["loss"]] == [2.0]
    write(run, [2], [3.0], rank=1)
    (update,) = eager.look()
    assert update.offset == 1  # the second point was said before, and is another now
    (update,) = settled.look(settled=True)
    assert (update.offset, update.values.tolist()) == (1, [2.0])
    assert settled.look(settled=True) == []
    assert [len(one.steps) for one in settled.look()] == [1]  # once the run has ended: what the other rank never said
    assert settled.held == eager.held == {"loss": eager.logged()}


def test_a_run_that_was_resumed_comes_again_from_its_start(tmp_path: Path):
    run = RunDir(tmp_path)
    reader = Reader(run)
    write(run, [1, 2, 3, 4], [1.0] * 4)
    reader.look()
    write(run, [2], [2.0], attempt=2, name=RESUMED)  # from the checkpoint at step 2
    write(run, [3], [9.0], attempt=2)
    (update,) = reader.look()
    assert (update.offset, update.steps.tolist(), update.values.tolist()) == (0, [1, 2, 3], [1.0, 1.0, 9.0])
    assert reader.held["loss"] == reader.logged()


def test_a_metric_that_is_gone_and_comes_again_starts_anew(tmp_path: Path):
    run = RunDir(tmp_path)
    reader = Reader(run)
    write(run, [1], [1.0])
    reader.look()
    assert reader.cursor.new({}) == []
    assert [one.offset for one in reader.look()] == [0]


def test_more_points_than_a_chart_shows_are_decimated_and_counted(tmp_path: Path):
    run = RunDir(tmp_path)
    reader, every = Reader(run, pixels=100), Reader(run)
    values = np.zeros(10_000)
    values[1234], values[5678] = 9.0, np.nan
    write(run, list(range(10_000)), values.tolist())
    (update,) = reader.look()
    assert (update.offset, update.total) == (0, 10_000)
    assert len(update.steps) <= 500
    assert {1234.0, 5678.0, 0.0, 9999.0} <= set(update.steps.tolist())
    assert (update.times == 100.0 + update.steps).all()
    held = len(update.steps)
    write(run, [10_000], [1.0])
    (update,) = reader.look()
    assert (update.offset, update.steps.tolist(), update.total) == (held, [10_000], 10_001)
    assert len(every.look()[0].steps) == 10_001


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.booleans()), min_size=1, max_size=14))
def test_what_a_reader_holds_is_what_was_logged(batches: list[tuple[int, int, bool]]):
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(folder)
        reader, patient, done = Reader(run), Reader(run), {0: 0, 1: 0, 2: 0}
        for rank, count, eager in batches:
            steps = list(range(done[rank] + 1, done[rank] + 1 + count))
            done[rank] += count
            write(run, steps, [step * 10.0 + rank for step in steps], rank=rank)
            reader.look(settled=not eager)
            before = list(patient.held.get("loss", ()))
            updates = patient.look(settled=True)
            if updates and updates[0].offset:
                assert patient.held["loss"][: len(before)] == before  # nothing was taken back
            if eager:
                assert reader.held["loss"] == reader.logged()
        reader.look()
        patient.look()
        assert reader.held == patient.held == {"loss": reader.logged()}
