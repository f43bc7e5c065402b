"""The kernel's part of a view: light while the run goes on, with curves at the end."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from mlnb.api.read.history import Series
from mlnb.notebook.view import live_outputs as module
from mlnb.notebook.view.live_outputs import LiveOutputs
from mlnb.render.output_bundle import MIME, bundle
from tests.waiting import until

WIDGET = "application/vnd.jupyter.widget-view+json"
LOGS = """
import mlnb, time, pathlib
for i in range(100):
    mlnb.log(step=i, loss=1 / (i + 1))
time.sleep(0.3)
while not pathlib.Path({gate!r}).exists(): time.sleep(0.01); mlnb.log(loss=1.0)
"""


class Handle:
    def __init__(self) -> None:
        self.got: list[dict] = []

    def update(self, shown, raw):
        self.got.append(shown)


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Handle:
    made = Handle()
    monkeypatch.setattr("IPython.display.display", lambda shown, **_: made.got.append(shown) or made)
    for name in list(module.os.environ):
        if name.startswith(("JPY_SESSION_NAME", "VSCODE_", "COLAB_", "MLNB_SERVED")):
            monkeypatch.delenv(name)
    return made


def test_text_changes_at_most_twice_a_second_and_the_curve_is_sent_rarely(handle, start, tmp_path):
    gate = tmp_path / "gate"
    run = start(LOGS.format(gate=str(gate)))
    LiveOutputs().show(run)
    began = time.monotonic()
    until(lambda: len(handle.got) >= 7 and any("metrics" not in shown[MIME] for shown in handle.got))
    assert len(handle.got) <= 2 * (time.monotonic() - began) + 2
    light = [shown for shown in handle.got if "metrics" not in shown[MIME]]
    assert all(len(json.dumps(shown)) < 5_000 for shown in light)
    gate.touch()
    until(lambda: handle.got[-1][MIME]["state"] == "succeeded")
    last = handle.got[-1]
    assert last[MIME]["metrics"]["loss"]["step"][:100] == list(range(100))
    assert {"image/png", "text/html", "text/plain"} <= set(last)
    assert WIDGET not in last


def test_where_the_server_streams_the_kernel_says_only_states(handle, start, tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    run = start(LOGS.format(gate=str(gate)))
    monkeypatch.setenv("MLNB_SERVED", str(run.dir.parent))
    LiveOutputs().show(run)
    until(lambda: handle.got[-1][MIME]["state"] == "running")
    count = len(handle.got)
    time.sleep(2)
    assert len(handle.got) == count
    gate.touch()
    until(lambda: handle.got[-1][MIME]["state"] == "succeeded")
    assert "loss" in handle.got[-1][MIME]["metrics"]


def test_a_widget_is_fed_what_is_new_once_somebody_looks(handle, start, tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    made = []
    from mlnb.notebook.view.widget import RunWidget

    class Watched(RunWidget):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)
            self.frames, self.send = [], lambda content, buffers: self.frames.append((content, buffers))

    monkeypatch.setattr("mlnb.notebook.view.widget.RunWidget", Watched)
    gate = tmp_path / "gate"
    run = start(LOGS.format(gate=str(gate)))
    LiveOutputs().show(run)
    assert handle.got[0][WIDGET]["model_id"] == made[0].model_id
    made[0]._handle_custom_msg({"type": "hello"}, [])
    until(lambda: sum(c["count"] for c, _ in made[0].frames if c["metric"] == "loss") > 100)
    before = len(handle.got)
    time.sleep(1)
    offsets = [(c["offset"], c["count"]) for c, _ in made[0].frames if c["metric"] == "loss"]
    assert all(o + n == after for (o, n), (after, _) in itertools.pairwise(offsets))
    assert len(handle.got) == before  # the output itself stays as it is
    gate.touch()
    until(lambda: handle.got[-1][MIME]["state"] == "succeeded")
    assert WIDGET not in handle.got[-1]


def test_stop_of_the_widget_ends_the_run(handle, start, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    run = start("import time; time.sleep(600)")
    widget = module._widget(run, {"id": run.id})
    widget._handle_custom_msg({"type": "stop"}, [])
    until(lambda: run.state == "cancelled")
    widget.close()


def test_a_bundle_says_progress_usage_and_what_is_left(start, tmp_path):
    run = start(LOGS.format(gate=str(tmp_path / "gate")))
    until(lambda: "mlnb.cpu" in run.all_series())
    import numpy as np

    now = time.time()
    progress = Series(np.array([now - 60, now]), np.arange(2.0), np.array([0.0, 0.5]), np.array([1, 1]), 1, 2)
    run.all_series = lambda read=run.all_series: {**read(), "mlnb.progress": progress}
    shown = bundle(run)
    assert "about 1 min left" in shown["text/plain"] or "about 59 s left" in shown["text/plain"]
    assert shown[MIME]["ends"] == pytest.approx(now + 60, abs=1)
    assert set(shown[MIME]["metrics"]) >= {"loss", "mlnb.cpu", "mlnb.memory"}
    assert "cores" not in shown[MIME]["line"]
    assert "cores" in shown["text/html"]


@pytest.mark.parametrize("name", [r"acc$\foo$", "$", "a_{b$", "\u200b\ud800"])
def test_whatever_a_metric_is_called_its_view_ends_and_so_do_others(handle, start, name: str):
    views = LiveOutputs()
    strange, plain = start(f"import mlnb\nmlnb.log(**{{{name!r}: 1.0}})"), start("import mlnb\nmlnb.log(loss=1.0)")
    for run in (strange, plain):
        views.show(run)
    until(lambda: {shown[MIME]["id"] for shown in handle.got if "metrics" in shown[MIME]} == {strange.id, plain.id})
    until(lambda: [shown[MIME]["state"] for shown in handle.got].count("succeeded") == 2)


def test_one_view_that_fails_stops_no_other(handle, start, tmp_path, monkeypatch: pytest.MonkeyPatch):
    views, gate = LiveOutputs(), tmp_path / "gate"
    broken, good = (start(LOGS.format(gate=str(gate)), cpus=1) for _ in range(2))
    for run in (broken, good):
        views.show(run)
    monkeypatch.setattr(broken, "all_series", lambda: 1 / 0)
    monkeypatch.setattr(broken, "tail", lambda *_: 1 / 0)
    gate.touch()
    until(lambda: (handle.got[-1][MIME]["id"], handle.got[-1][MIME]["state"]) == (good.id, "succeeded"))
