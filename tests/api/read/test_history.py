"""The metrics of a run are one history over its ranks and attempts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.api.read.history import History, frame
from mlnb.node.rank import frames
from mlnb.node.rank.log import RESUMED
from mlnb.rundir import RunDir

nan = float("nan")
Rows = list[tuple[float, float]]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def write(run: RunDir, rows: Rows, *, attempt: int = 1, rank: int = 0, name: str = "loss", time: float = 0.0) -> None:
    """Append (step, value) as a frame."""
    files = run.attempt(attempt)
    files.path.mkdir(parents=True, exist_ok=True)
    files.stdout(rank).touch()
    steps, values = zip(*rows, strict=True)
    with files.metrics(rank).open("ab") as file:
        file.write(frames.encode([name], [time + step for step in steps], steps, [values]))


def curve(run: RunDir, name: str = "loss") -> Rows:
    series = History(run).read()[name]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def test_what_was_written_is_read_and_only_the_new_is_read_again(run: RunDir):
    write(run, [(1, 0.5), (2, 0.25)])
    history = History(run)
    assert history.read()["loss"].value.tolist() == [0.5, 0.25]
    write(run, [(3, 0.125)])
    write(run, [(3, 1.0)], name="acc")
    read = history.read()
    assert read["loss"].value.tolist() == [0.5, 0.25, 0.125]
    assert read["acc"].value.tolist() == [1.0]
    assert len(history.read()["loss"]) == 3


def test_a_torn_frame_is_read_when_it_is_whole(run: RunDir):
    write(run, [(1, 1.0)])
    data = frames.encode(["loss"], [2.0], [2], [[2.0]])
    path = run.attempt(1).metrics(0)
    history = History(run)
    with path.open("ab") as file:
        file.write(data[:20])
    assert history.read()["loss"].value.tolist() == [1.0]
    with path.open("ab") as file:
        file.write(data[20:])
    assert history.read()["loss"].value.tolist() == [1.0, 2.0]


def test_ranks_are_averaged_step_by_step(run: RunDir):
    write(run, [(1, 1.0), (2, 2.0), (3, 3.0)], time=10)
    write(run, [(1, 3.0), (2, 6.0)], rank=1, time=5)
    write(run, [(2, nan)], name="acc", rank=1)
    assert curve(run) == [(1, 2.0), (2, 4.0), (3, 3.0)]
    assert History(run).read()["loss"].time.tolist() == [6, 7, 13]
    assert np.isnan(curve(run, "acc")[0][1])


def test_several_values_of_a_step_meet_those_of_the_other_ranks_in_order(run: RunDir):
    write(run, [(1, 1.0), (1, 2.0), (2, 5.0)])
    write(run, [(1, 3.0), (1, 4.0), (2, 7.0)], rank=1)
    assert curve(run) == [(1, 2.0), (1, 3.0), (2, 6.0)]


def test_an_attempt_that_went_on_cuts_the_one_before_back_to_its_checkpoint(run: RunDir):
    write(run, [(n, n) for n in range(1, 8)])
    write(run, [(4, 4)], attempt=2, name=RESUMED)
    write(run, [(n, 10 + n) for n in range(5, 9)], attempt=2)
    assert curve(run) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 15), (6, 16), (7, 17), (8, 18)]
    assert History(run).read()["loss"].attempt.tolist() == [1] * 4 + [2] * 4
    assert RESUMED not in History(run).read()


def test_steps_that_the_script_counts_itself_are_cut_by_the_checkpoints_time(run: RunDir):
    write(run, [(0, 1.0), (1, 2.0)], time=10)  # batches of an epoch that was saved
    write(run, [(0, 3.0)], time=20)  # and of one that was not
    write(run, [(100, 100)], attempt=2, name=RESUMED, time=15 - 100)
    write(run, [(0, 4.0), (1, 5.0)], attempt=2, time=30)
    assert curve(run) == [(0, 1.0), (1, 2.0), (0, 4.0), (1, 5.0)]


def test_an_attempt_that_started_over_is_all_there_is(run: RunDir):
    write(run, [(1, 1.0), (2, 2.0)])
    write(run, [(1, 5.0)], attempt=2)
    assert curve(run) == [(1, 5.0)]


def test_an_attempt_that_has_nothing_yet_hides_nothing(run: RunDir):
    write(run, [(1, 1.0)])
    run.attempt(2).path.mkdir(parents=True)
    run.attempt(2).stdout(0).touch()
    assert curve(run) == [(1, 1.0)]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(1, 20))
def test_over_any_attempts_no_step_is_missing_or_doubled(cuts: list[int], length: int):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run, done = RunDir(folder), 0
        for number, cut in enumerate(cuts, 1):
            saved = min(cut, done)
            if number > 1:
                write(run, [(saved, saved)], attempt=number, name=RESUMED)
            done = saved + length
            write(run, [(step, number) for step in range(saved + 1, done + 1)], attempt=number)
        assert [step for step, _ in curve(run)] == list(range(1, done + 1))


def test_a_long_data_frame(run: RunDir):
    write(run, [(1, 0.5), (2, nan)], time=100)
    write(run, [(2, 0.9)], name="acc")
    table = frame(History(run).read())
    assert list(table.columns) == ["name", "step", "time", "value", "attempt"]
    assert table["name"].tolist() == ["loss", "loss", "acc"]
    assert table["step"].tolist() == [1, 2, 2]
    assert table["step"].dtype == np.int64
    assert table["time"].tolist() == [101, 102, 2]
    assert np.isnan(table["value"][1])
    assert table["attempt"].tolist() == [1, 1, 1]
    assert table[table.name == "loss"].value.min() == 0.5


def test_a_run_without_metrics_has_an_empty_frame(run: RunDir):
    table = frame(History(run).read())
    assert list(table.columns) == ["name", "step", "time", "value", "attempt"]
    assert len(table) == 0
