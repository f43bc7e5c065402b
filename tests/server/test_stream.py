"""A run's stream: whole, then what is new, then the end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlnb.node.rank import frames
from tests.server.conftest import websocket
from tests.waiting import until

GATED = """
import mlnb, time, pathlib
for i in range(1000):
    mlnb.log(step=i, loss=1 / (i + 1))
    while i in (99, 499) and not pathlib.Path({gate!r} + str(i)).exists(): time.sleep(0.01)
print("said")
"""


def test_whole_history_then_deltas_then_the_end(server, start, tmp_path: Path):
    gate = str(tmp_path / "gate")
    run = start(GATED.format(gate=gate))
    view = server.stream(run.id)
    view.until(lambda view: len(view.points.get("loss", ())) == 100)
    assert view.summary["state"] == "running"
    late = server.stream(run.id)  # another view of it
    late.until(lambda view: len(view.points.get("loss", ())) == 100)
    view.sizes.clear()
    Path(f"{gate}99").touch()
    view.until(lambda view: len(view.points["loss"]) == 500)
    new = sum(size for kind, size in view.sizes if kind == "points")
    assert new < 400 * 16 + 3000  # what is new, once
    Path(f"{gate}499").touch()
    for one in (view, late):
        one.until(lambda view: view.ended)
        assert one.summary["state"] == "succeeded"
        assert one.summary["output"] == "said"
        assert one.points["loss"] == [(i, 1 / (i + 1)) for i in range(1000)]
        assert one.points["mlnb.memory"]
        with pytest.raises(EOFError):
            one.take()


def test_nothing_new_nothing_sent_and_at_most_ten_a_second(server, start, tmp_path: Path):
    script = (
        "import mlnb, time\nfor i in range(300):\n    mlnb.log(loss=float(i))\n    time.sleep(0.01)\ntime.sleep(600)"
    )
    run = start(script)
    view = server.stream(run.id)
    view.until(lambda view: len(view.points.get("loss", ())) > 20)
    view.sizes.clear()
    began = time.monotonic()
    view.until(lambda view: len(view.points["loss"]) == 300)
    took = time.monotonic() - began
    assert sum(kind == "points" for kind, _ in view.sizes) <= 11 * took + 1
    samples = len(view.points["mlnb.memory"])
    view.until(lambda view: len(view.points["mlnb.memory"]) > samples)
    view.sizes.clear()
    view.until(lambda view: len(view.points["mlnb.memory"]) > samples + 3)
    points = [size for kind, size in view.sizes if kind == "points"]
    assert len(points) <= 3  # samples of CPU and memory, one a second: each all at once
    assert len(view.sizes) <= 3 * len(points)  # a summary with each, and one when the state is looked at
    assert sum(points) < 2000
    view.close()


def test_a_run_of_long_ago_comes_whole_and_decimated(server, start):
    count = 300_000
    run = start("print('old')").wait(60)
    steps = list(range(count))
    values = [1.0] * count
    values[123_456] = 9.0
    path = run.directory.attempt(1).metrics(0)
    path.write_bytes(frames.encode(["loss"], [0.0] * count, steps, [values]))
    view = server.stream(run.id)
    view.until(lambda view: view.ended)
    points = view.points["loss"]
    assert len(points) <= 10_000
    assert (points[0][0], points[-1][0], view.totals["loss"]) == (0, count - 1, count)
    assert (123_456.0, 9.0) in points


def test_a_resumed_run_cuts_the_curve_back_and_says_where(server, start, tmp_path: Path):
    from mlnb.node.rank.log import RESUMED

    run = start("import time; time.sleep(600)")
    until(lambda: run.state == "running")
    first = run.directory.attempt(1).metrics(0)
    first.write_bytes(frames.encode(["loss"], [0.0] * 10, list(range(10)), [[1.0] * 10]))
    view = server.stream(run.id)
    view.until(lambda view: len(view.points.get("loss", ())) == 10)
    second = run.directory.attempt(2)
    second.path.mkdir()
    second.stdout(0).touch()
    rows = frames.encode([RESUMED], [1.0], [5], [[5.0]]) + frames.encode(["loss"], [1.0], [6], [[2.0]])
    second.metrics(0).write_bytes(rows)
    view.until(lambda view: view.summary.get("attempts"))
    view.until(lambda view: len(view.points["loss"]) == 7)
    assert view.points["loss"][-2:] == [(5.0, 1.0), (6.0, 2.0)]
    assert view.summary["attempts"] == [{"number": 2, "step": 6.0}]
    view.close()


def test_no_token_403_no_run_404(server, start):
    run = start("import time; time.sleep(600)")
    for run_id, token, status in ((run.id, False, 403), ("20000101-nothing", True, 404), ("2%2F..", True, 404)):
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            server.stream(run_id, token=token)
        assert caught.value.status_code == status


def test_forty_views_read_the_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start):
    from mlnb.server import poller as module

    run = start("import time; time.sleep(600)")
    reads: list[int] = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda one: (reads.append(1), read(one))[1])
    poller, told = module.Poller(), [[] for _ in range(40)]
    for one in told:
        poller.subscribe(run, one.append)
    until(lambda: len(reads) > 3 and all(told))
    assert len(reads) < len(told)  # once for all views
    for one in told:
        poller.unsubscribe(run.id, one.append)
    until(lambda: poller._thread is None)  # nobody looks, nothing is read


def test_one_broken_run_stops_no_other_stream(server, start, tmp_path: Path):
    gate = str(tmp_path / "gate")
    broken, good = start(GATED.format(gate=gate), cpus=1), start(GATED.format(gate=gate), cpus=1)
    for run in (broken, good):
        until(lambda run=run: "loss" in run.series())
    broken.directory.attempt(1).metrics(1).write_text('{"n": 1, "names": [[]]}\n' + 24 * "x" + "\n")
    broken.directory.attempt(1).stdout(1).touch()
    views = [server.stream(run.id) for run in (broken, good)]
    views[1].until(lambda view: len(view.points.get("loss", ())) == 100)
    for number in (99, 499):
        Path(f"{gate}{number}").touch()
    views[1].until(lambda view: view.ended)
    assert views[1].summary["state"] == "succeeded"


def test_a_stream_that_fails_is_closed_so_that_the_view_connects_again(monkeypatch: pytest.MonkeyPatch):
    from mlnb.server.poller import Snapshot
    from mlnb.server.stream import StreamHandler

    closed: list[tuple[int, str]] = []
    view = StreamHandler.__new__(StreamHandler)
    monkeypatch.setattr(view, "run", SimpleNamespace(id="a-run"), raising=False)
    monkeypatch.setattr(view, "close", lambda *reason: closed.append(reason), raising=False)

    async def send() -> None:
        view._newest = asyncio.Queue()
        view._newest.put_nowait(Snapshot({"state": "running"}, 1, {"loss": None}))  # which can't be sent
        await asyncio.wait_for(view._send(), 20)

    asyncio.run(send())
    assert closed == [(1011, "internal error")]
