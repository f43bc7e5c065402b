"""How long earlier runs waited: from run directories as they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.queue import history as queue_history
from mlnb.targets.batch.queue.history import QueueTimes, queue_times_sentence


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_history, "_cache", {})


def write(root: Path, number: int, waited: float | None, target: str = "hpc", partition: str | None = "gpu") -> Path:
    run = root / f"20261121-{number:06d}-abcdef"
    (run / "attempts" / "001").mkdir(parents=True)
    about = {"target": target, "submitted": 1000.0, **({"partition": partition} if partition else {})}
    (run / "run.json").write_text(json.dumps(about))
    if waited is not None:
        events = [{"t": 1000.0 + waited, "event": "started"}, {"t": 9999.0, "event": "running"}]
        (run / "attempts/001/node-0.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


def test_range_count_and_median(tmp_path: Path):
    for number, waited in enumerate((3.0, 120.0, 41 * 60.0)):
        write(tmp_path, number, waited)
    write(tmp_path, 10, None)  # still waits
    write(tmp_path, 11, 7000.0, partition="high")
    write(tmp_path, 12, 7000.0, target="local", partition=None)
    (tmp_path / ".store").mkdir()
    (tmp_path / "20261121-999999-torn").mkdir()
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == (
        "your last 3 runs on gpu waited between 3.0 s and 41 min (median 2 min)"
    )
    assert queue_times_sentence(tmp_path, "hpc", "high") == "your last run on high waited 1 h 56 min"
    assert queue_times_sentence(tmp_path, "hpc").startswith("your last 4 runs on hpc waited between")


def test_nothing_to_tell(tmp_path: Path):
    assert queue_times_sentence(tmp_path / "nowhere", "hpc") == ""
    write(tmp_path, 1, None)
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == ""


def test_only_the_newest_are_looked_at(tmp_path: Path):
    for number in range(queue_history.NEWEST + 10):
        write(tmp_path, number, 5000.0 if number < 10 else 12.0)
    assert queue_history.queue_times(tmp_path, "hpc", "gpu") == QueueTimes(queue_history.NEWEST, 12.0, 12.0, 12.0)
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == "your last 50 runs on gpu waited 12 s"


def test_an_answer_is_kept_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(queue_history.time, "monotonic", lambda: now)
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == ""
    write(tmp_path, 1, 4.0)
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == ""
    now += queue_history.FRESH + 1
    assert queue_times_sentence(tmp_path, "hpc", "gpu") == "your last run on gpu waited 4.0 s"


def test_what_does_not_read_is_left_out(tmp_path: Path):
    (write(tmp_path, 1, 4.0) / "attempts/001/node-0.jsonl").write_text('{"t": "x", "event": "started"}\n{"t"')
    (write(tmp_path, 2, 4.0) / "run.json").write_text('{"target": "hpc", "partition": "gpu", "submitted": null}')
    (write(tmp_path, 3, 4.0) / "run.json").write_text("[]")
    write(tmp_path, 4, -0.5)  # the node's clock is behind
    assert queue_history.queue_times(tmp_path, "hpc", "gpu") == QueueTimes(1, 0.0, 0.0, 0.0)


@given(st.lists(st.floats(0, 10**6), min_size=1, max_size=60))
def test_words_never_fail(seconds: list[float]):
    found = QueueTimes(len(seconds), min(seconds), sorted(seconds)[len(seconds) // 2], max(seconds))
    assert str(len(seconds)) in found.sentence("gpu") or len(seconds) == 1
