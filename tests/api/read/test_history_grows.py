"""What is read while a run goes on is what is read of it at once in the end; a reader can tell what may change."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlnb.api.read.history import History, Series
from mlnb.node.rank import frames
from mlnb.node.rank.log import RESUMED
from mlnb.rundir import RunDir


def write(run: RunDir, steps: list[int], values: list[float], *, attempt: int, rank: int, name: str) -> None:
    files = run.attempt(attempt)
    files.path.mkdir(parents=True, exist_ok=True)
    files.stdout(rank).touch()
    with files.metrics(rank).open("ab") as file:
        file.write(frames.encode([name], [float(step) for step in steps], steps, [values]))


def rows(one: Series) -> list[tuple[float, float, float, int]]:
    return list(zip(one.time.tolist(), one.step.tolist(), one.value.tolist(), one.attempt.tolist(), strict=True))


def plain(reports: list[dict[int, list[tuple[int, float]]]]) -> list[tuple[int, float]]:
    """By hand: ranks averaged, the k-th value of a step with the k-th; sorted by step where ranks are several."""
    found: dict[tuple[int, int], list[float]] = {}
    for rank in reports[-1].values():
        seen: dict[int, int] = {}
        for step, value in rank:
            seen[step] = seen.get(step, -1) + 1
            found.setdefault((step, seen[step]), []).append(value)
    return [(step, sum(values) / len(values)) for (step, _), values in sorted(found.items())]


batch = st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 12))


@given(st.lists(batch, min_size=1, max_size=14))
def test_ranks_that_report_in_any_order_make_the_same_curve(batches: list[tuple[int, int, int]]):
    with tempfile.TemporaryDirectory() as folder:
        run, reports = RunDir(folder), {}
        history, sent, generation = History(run), [], None
        for rank, count, odd in batches:
            mine = reports.setdefault(rank, [])
            start = mine[-1][0] + 1 if mine else 1
            if odd == 0:  # an odd one out: steps that the other ranks do not have in this place
                start += 3
            steps = [start] if odd == 1 else list(range(start, start + count))
            new = [(step, float(step * 10 + rank)) for step in steps]
            mine += new
            write(run, steps, [value for _, value in new], attempt=1, rank=rank, name="loss")
            one = history.read()["loss"]
            assert rows(one) == rows(History(run).read()["loss"])
            if len(reports) > 1:
                assert list(zip(one.step.tolist(), one.value.tolist(), strict=True)) == plain([reports])
            if one.generation == generation:  # what a view was told is stable is so
                assert rows(one)[: len(sent)] == sent
            sent, generation = rows(one)[: one.stable], one.generation


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=5))
def test_attempts_that_come_while_one_looks(attempts: list[tuple[int, int, int]]):
    with tempfile.TemporaryDirectory() as folder:
        run, done, old = RunDir(folder), 0, None
        history = History(run)
        for number, (cut, length, flushes) in enumerate(attempts, 1):
            step = min(cut, done)
            if number > 1:
                for rank in (0, 1):
                    write(run, [step], [step], attempt=number, rank=rank, name=RESUMED)
            for _ in range(flushes):
                for rank in (0, 1):
                    steps = list(range(step + 1, step + 1 + length))
                    write(run, steps, [number] * length, attempt=number, rank=rank, name="loss")
                    one = history.read()["loss"]
                    assert rows(one) == rows(History(run).read()["loss"])
                    if old is not None and old[0] == one.generation:
                        assert rows(one)[: len(old[1])] == old[1]
                    old = (one.generation, rows(one)[: one.stable])
                step += length
            done = step
        assert history.read()["loss"].step.tolist() == list(range(1, done + 1))


def test_reading_on_costs_what_is_new(tmp_path: Path):
    run = RunDir(tmp_path)
    write(run, list(range(200_000)), [0.5] * 200_000, attempt=1, rank=0, name="loss")
    history = History(run)
    before = history.read()["loss"]
    write(run, [200_000], [0.25], attempt=1, rank=0, name="loss")
    once = history.read()["loss"]
    write(run, [200_001], [0.125], attempt=1, rank=0, name="loss")
    twice = history.read()["loss"]
    assert (before.stable, once.stable, twice.stable) == (200_000, 200_001, 200_002)
    assert np.shares_memory(once.value, twice.value)  # not copied for one point more
