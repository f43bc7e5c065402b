"""``mlnb.log`` loses nothing, logs values as of the call, and never disturbs the loop."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import mlnb
from mlnb.node.rank import frames, log
from mlnb.node.rank.log import Metrics
from tests.waiting import until

nan, inf = float("nan"), float("inf")


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    return Metrics(tmp_path / "rank-0.metrics")


def rows(metrics: Metrics) -> list[tuple[float, str, float]]:
    """(step, name, value) of all that is on disk, in order."""
    assert metrics.path is not None
    logged = []
    data = metrics.path.read_bytes() if metrics.path.exists() else b""
    for frame, _ in frames.decode(data):
        _, steps, *columns = frame.columns
        for row in range(frame.rows):
            logged += [(steps[row], name, column[row]) for name, column in zip(frame.names, columns, strict=True)]
    return logged


def values(metrics: Metrics, name: str = "x") -> list[float]:
    metrics.flush()
    return [value for _, other, value in rows(metrics) if other == name]


def test_nothing_of_200_000_calls_from_two_tight_loops_is_lost(metrics: Metrics):
    count = 100_000

    def loop(name: str) -> None:
        call = metrics.log
        for number in range(count):
            call(step=number + 1, **{name: number})

    metrics.start()  # flushes meanwhile
    threads = [threading.Thread(target=loop, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.flush()
    logged = rows(metrics)
    for name in "ab":
        assert [(s, v) for s, n, v in logged if n == name] == [(n + 1, n) for n in range(count)]
    assert metrics.error is None


def test_the_thread_writes_logged_values_to_disk(metrics: Metrics):
    metrics.start()
    metrics.log(x=1.0)
    until(lambda: rows(metrics))
    metrics.log(x=2.0)
    until(lambda: len(rows(metrics)) == 2)


def test_nan_and_infinity_are_preserved(metrics: Metrics):
    for value in (nan, inf, -inf, torch.tensor(nan), np.float32(inf)):
        metrics.log(x=value)
    logged = values(metrics)
    assert math.isnan(logged[0])
    assert logged[1:3] == [inf, -inf]
    assert math.isnan(logged[3])
    assert logged[4] == inf


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
        (np.array([2.0]), 2.0),
        (torch.tensor(1.5), 1.5),
        (torch.tensor([[1.5]]), 1.5),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor(2, dtype=torch.int64), 2.0),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
    ],
)
def test_numbers_of_every_kind_are_logged(metrics: Metrics, value: object, expected: float):
    metrics.log(x=value)
    assert values(metrics) == [expected]


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError(name)

    def __float__(self) -> float:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "value",
    [None, "high", [1.0], {}, object(), torch.ones(3), np.ones(3), 1j, Hostile()],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_left_out_and_never_an_error(metrics: Metrics, value: object):
    metrics.log(x=value, y=2.0)
    metrics.log(x=1.0)
    metrics.log(x=value)
    assert values(metrics) == [1.0]
    (note,) = metrics.notes()
    assert note.startswith(f"mlnb.log takes numbers; not logged: x ({type(value).__name__}")


def test_an_integer_that_no_double_holds_becomes_nan(metrics: Metrics):
    metrics.log(x=10**400)
    assert math.isnan(values(metrics)[0])


def test_what_the_script_logs_takes_the_place_of_automatic_values(metrics: Metrics):
    metrics.expect({"x"})
    automatic = metrics.adder("x")
    automatic(1.0, 1, 0.5)
    metrics.flush()
    assert values(metrics) == []  # it waits for the script's own
    metrics.log(step=1, x=0.25)
    automatic(1.0, 2, 0.5)
    metrics.log(step=2, x=0.125)
    assert values(metrics) == [0.25, 0.125]


def test_automatic_values_are_written_if_the_script_logs_none(metrics: Metrics):
    metrics.expect({"x"})
    metrics.adder("x")(1.0, 1, 0.5)
    metrics.flush(last=True)
    assert values(metrics) == [0.5]


def test_a_loss_that_is_nan_is_known_with_its_step(metrics: Metrics):
    add = metrics.adder("loss")
    for step, value in enumerate([1.0, nan, 2.0, nan, nan], 1):
        add(1.0, step, value)
    metrics.flush()
    assert metrics.nan_since == {"loss": 4.0}
    add(1.0, 6, nan)
    metrics.log(step=1, accuracy=nan)
    metrics.flush()
    assert metrics.nan_since == {"loss": 4.0}
    add(1.0, 7, 1.0)
    metrics.flush()
    assert metrics.nan_since == {}


@pytest.mark.parametrize("step", ["a", nan, np.ones(2), torch.ones(2), Hostile()], ids=lambda s: type(s).__name__)
def test_an_invalid_step_is_replaced_by_a_count(metrics: Metrics, step: object):
    metrics.log(step=step, x=1.0)  # type: ignore[arg-type]
    metrics.flush()
    assert rows(metrics) == [(1.0, "x", 1.0)]


@pytest.mark.parametrize("value", [torch.tensor(1.0), np.array(1.0), np.array([1.0])], ids=["torch", "0d", "1d"])
def test_a_value_that_is_changed_in_place_later_is_logged_as_of_the_call(metrics: Metrics, value: object):
    metrics.log(x=value)
    value += 1  # type: ignore[operator]
    metrics.log(x=value)
    value += 1
    assert values(metrics) == [1.0, 2.0]


def test_logging_keeps_no_graph_alive(metrics: Metrics):
    weight = torch.ones(2, requires_grad=True)
    metrics.log(x=(weight * 3).sum())
    assert values(metrics) == [6.0]


def test_a_forked_worker_writes_nothing(metrics: Metrics):
    metrics.log(x=1.0)
    pid = os.fork()
    if pid == 0:
        try:
            metrics.log(x=2.0)
            metrics.flush()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert values(metrics) == [1.0]


def test_a_loaders_workers_write_nothing(start):
    run = start(
        "import mlnb\n"
        "from torch.utils.data import DataLoader\n"
        "class Data:\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i):\n"
        "        mlnb.log(worker=i)\n"
        "        return i\n"
        "for x in DataLoader(Data(), num_workers=1):\n"
        "    mlnb.log(main=x)\n"
    ).wait(60)
    assert run.state == "succeeded", run.logs()
    assert set(run.series()) == {"main"}
    assert list(run.series()["main"].value) == [0, 1, 2, 3]


def test_steps_are_those_of_the_optimizer(metrics: Metrics):
    metrics.step = 5
    metrics.log(x=1.0)
    metrics.log(step=2, x=2.0)
    metrics.flush()
    assert rows(metrics) == [(5, "x", 1.0), (2, "x", 2.0)]


def test_without_an_optimizer_calls_are_counted(metrics: Metrics):
    for value in (1.0, 2.0, 3.0):
        metrics.log(x=value)
    metrics.flush()
    assert [step for step, _, _ in rows(metrics)] == [1, 2, 3]


def test_a_step_of_zero_is_a_step(metrics: Metrics):
    for step in range(3):
        metrics.log(step=step, x=step)
    metrics.flush()
    assert [step for step, _, _ in rows(metrics)] == [0, 1, 2]


def test_a_resumed_run_continues_to_count(metrics: Metrics):
    metrics.resume(30, 5.0)
    metrics.log(x=1.0)
    metrics.flush()
    assert rows(metrics) == [(30, log.RESUMED, 30), (30, "x", 1.0)]


def test_rows_that_a_full_disk_refused_are_written_later_and_no_frame_is_incomplete(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
):
    metrics.log(x=1.0)
    metrics.flush()
    write = os.write

    def full(file: int, data: memoryview) -> int:
        if len(data) > 10:
            return write(file, data[:10])  # the last bytes there are
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda file, data: full(file, memoryview(data)[:20]))
    metrics.log(x=2.0)
    metrics.flush()
    monkeypatch.setattr(os, "write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    metrics.log(x=3.0)
    metrics.flush()
    assert metrics.error
    assert "No space left" in metrics.error
    assert values_on_disk(metrics) == [1.0]
    monkeypatch.undo()
    metrics.log(x=4.0)
    metrics.flush()
    assert metrics.error is None
    assert values_on_disk(metrics) == [1.0, 2.0, 3.0, 4.0]


def values_on_disk(metrics: Metrics) -> list[float]:
    return [value for _, _, value in rows(metrics)]


def test_a_disk_that_stays_full_costs_bounded_memory_and_is_reported(metrics: Metrics, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "_MAX_UNWRITTEN", 1000)
    metrics.path = Path("/dev/full")
    for value in range(200):
        metrics.log(x=value)
        metrics.flush()
    assert metrics.error
    assert "No space left" in metrics.error
    assert len(metrics._unwritten) <= 1000


def test_outside_a_run_logging_does_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "current", Metrics())
    monkeypatch.setitem(mlnb.__dict__, "log", log.log)
    mlnb.log(x=1.0)
    log.current.flush()
    mlnb.log(step=3, x="no number")


def test_outside_a_run_nothing_is_kept_in_memory():
    metrics = Metrics()
    metrics.log(x=1.0)
    metrics.add(5.0, 1, "y", 2.0)
    assert metrics._rows == {}
