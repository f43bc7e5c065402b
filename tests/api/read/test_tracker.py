"""The tracker of docs/contributing/add-a-tracker.md follows a run as the page says."""

from __future__ import annotations

import csv
import re
import types
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.node.rank import frames
from mlnb.node.rank.log import RESUMED
from mlnb.rundir import RunDir
from tests.conftest import Start

PAGE = Path(__file__).parents[3] / "docs" / "contributing" / "add-a-tracker.md"
SCRIPT = """
import mlnb, time
for step in range(1, 101):
    mlnb.log(step=step, loss=1 / step, **{"val/accuracy": step / 100})
    time.sleep(0.01)
"""


@pytest.fixture
def tracker() -> types.ModuleType:
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert len(source.splitlines()) <= 30
    module = types.ModuleType("tracker")
    exec(compile(source, str(PAGE), "exec"), module.__dict__)
    return module


def rows(path: Path) -> list[tuple[float, ...]]:
    with path.open(newline="") as file:
        return [tuple(map(float, row)) for row in csv.reader(file)]


def logged(run: Run, name: str) -> list[tuple[float, ...]]:
    one = run.series()[name]
    return list(zip(one.step.tolist(), one.time.tolist(), one.value.tolist(), strict=True))


def test_it_writes_all_metrics_of_a_run(tracker: types.ModuleType, start: Start, tmp_path: Path):
    run = start(SCRIPT)
    assert tracker.follow(run, tmp_path, interval=0.1) == "succeeded"
    assert rows(tmp_path / "loss.csv") == logged(run, "loss")
    assert [value for *_, value in rows(tmp_path / "val.accuracy.csv")] == [step / 100 for step in range(1, 101)]


def test_a_run_that_was_resumed_is_written_again(tracker: types.ModuleType, tmp_path: Path):
    run = Run(RunDir(tmp_path / "20260101-run"))
    cursor = tracker.SeriesCursor()
    for attempt, steps in ((1, [1, 2, 3]), (2, [3, 4])):
        files = run.directory.attempt(attempt)
        files.path.mkdir(parents=True)
        files.stdout(0).touch()
        resumed = frames.encode([RESUMED], [2.5], [2], [[2.0]]) if attempt > 1 else b""
        times = [10.0 * (attempt - 1) + step for step in steps]
        files.metrics(0).write_bytes(resumed + frames.encode(["loss"], times, steps, [[float(attempt)] * len(steps)]))
        for update in cursor.new(run.series(), settled=True):
            tracker.write(tmp_path, update)
    assert [(step, value) for step, _, value in rows(tmp_path / "loss.csv")] == [(1, 1), (2, 1), (3, 2), (4, 2)]
