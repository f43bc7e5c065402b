"""What the tests of running programs share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import dask.config
import pytest

from mlnb.api import Run, runs
from mlnb.api.results.session import SessionLink
from mlnb.api.submit.submit import submit
from mlnb.capture.ship.contents import Bytes
from mlnb.node.data import objects, storages
from mlnb.targets.registry import target
from mlnb.task import Resources, Segment, Task
from tests.node.allocation import Allocate, Allocation


@pytest.fixture
def short_grace() -> Iterator[None]:
    """A grace of one second, so that tests need not wait ten for ranks that ignore SIGTERM."""
    with dask.config.set({"mlnb.targets.local.grace": 1.0}):
        yield


class Sent:
    """A sink for object streams that turns large data into input files."""

    def __init__(self) -> None:
        self.blobs: list[Bytes] = []

    def storage(self, storage: Any, label: str | None) -> storages.Location:
        return self.buffer(storages.view_of(storages.as_bytes(storage)))

    def buffer(self, view: memoryview) -> storages.Location:
        self.blobs.append(Bytes(bytes(view)))
        return ("blob", len(self.blobs) - 1)


Send = Callable[..., Run]


@pytest.fixture
def send() -> Iterator[Send]:
    """Submit a cell with values of this session; returns the run, whose ``outputs`` are returned."""
    sent: list[Run] = []

    def submitted(
        cell: str, values: dict[str, Any], outputs: tuple[str, ...] = (), definitions: str = "", **more: Any
    ) -> Run:
        main = more.pop("main", {})
        sink, labels = Sent(), objects.Labels()
        stream = objects.dump(values, sink, labels, prefix="0:", reference=lambda obj: objects.main_name(obj, [main]))
        names = ", ".join(values)
        header = f"from mlnb.node.data.inputs import session_data\n{definitions}\n({names},) = session_data(0)\n"
        start = header.count("\n") + 1
        table = {"blobs": [f"inputs/{blob.digest()}" for blob in sink.blobs], "buffers": stream.buffers}
        contents = {
            "inputs/0.pickle": Bytes(stream.data),
            "inputs/0.json": Bytes(json.dumps(table).encode()),
            **dict(zip(table["blobs"], sink.blobs, strict=True)),
        }
        task = Task(
            script=header + cell,
            segments=(Segment(start, cell.count("\n") + 1, "cell [1]", 1),),
            outputs=outputs,
            inputs=tuple(values),
            seed=0,
            interactive=True,
            **more,
        )
        local = target()
        run = runs.add(Run(submit(task, contents, local, local.offer(Resources()), name="sent", env={})))
        run.attach(SessionLink(labels, {}))
        sent.append(run)
        return run

    yield submitted
    for run in sent:
        run.cancel()


@pytest.fixture
def allocate() -> Iterator[Allocate]:
    """Make a run whose node programs the test starts; they are killed after the test."""
    made: list[Allocation] = []

    def allocation(*args: object, **more: object) -> Allocation:
        made.append(Allocation(*args, **more))  # type: ignore[arg-type]
        return made[-1]

    yield allocation
    for item in made:
        item.end()
