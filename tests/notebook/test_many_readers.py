"""A waiting cell and the view's thread read one run at once: neither makes the other lose or double anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from mlnb.api.read.history import History
from mlnb.api.read.progress import Events
from mlnb.node.rank import frames
from mlnb.rundir import RunDir

READERS = 4


def reading(read: Callable[[], object], write: Callable[[int], None], count: int) -> None:
    """Have ``read`` called by several threads for as long as ``write`` writes."""
    written = threading.Event()

    def keep() -> None:
        while not written.is_set():
            read()

    threads = [threading.Thread(target=keep) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for number in range(count):
        write(number)
    written.set()
    for thread in threads:
        thread.join()


def test_metrics(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    attempt.stdout(0).touch()
    history = History(run)
    with attempt.metrics(0).open("ab", buffering=0) as file:

        def write(number: int) -> None:
            file.write(frames.encode(["loss"], [float(number)], [float(number)], [[number / 2]]))

        reading(history.read, write, 500)
    series = history.read()["loss"]
    assert series.step.tolist() == list(range(500))
    assert series.value.tolist() == [k / 2 for k in range(500)]


def test_events(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    events = Events(run)
    with attempt.events(0).open("a") as file:

        def write(number: int) -> None:
            sample = {"event": "sample", "t": float(number), "cpu": float(number), "memory": 1, "gpus": []}
            file.write(json.dumps(sample) + "\n")
            file.flush()

        reading(events.usage, write, 500)
    assert events.usage()["mlnb.cpu"].value.tolist() == [float(number) for number in range(500)]
