"""RunWidget through its public face: what a front end would receive for what Python and the view do."""

import threading

import numpy as np
import pytest

from mlnb.errors import MlnbError
from mlnb.notebook.view import widget as widget_module
from mlnb.notebook.view.widget import RunWidget


class FrontEnd:
    """Stands where the browser is: sends custom messages and keeps what comes back."""

    def __init__(self, widget):
        self.widget = widget
        self.frames = []
        widget.send = self._receive

    def _receive(self, content, buffers=None):
        numbers = np.frombuffer(buffers[0], dtype="<f8")
        steps, values = numbers[: content["count"]], numbers[content["count"] :]
        self.frames.append((content["metric"], content["offset"], steps.tolist(), values.tolist()))

    def say(self, kind):
        self.widget._handle_custom_msg({"type": kind}, [])

    def history(self, metric):
        """Put the frames together as the view does; fail on a gap."""
        points = []
        for name, offset, steps, values in self.frames:
            if name == metric:
                assert offset <= len(points), "a gap"
                points[offset:] = zip(steps, values, strict=True)
        return points


@pytest.fixture
def static(tmp_path, monkeypatch):
    (tmp_path / "widget.js").write_text("export default {}")
    (tmp_path / "widget.css").write_text(".mlnb-run {}")
    monkeypatch.setattr(widget_module, "STATIC", tmp_path)
    return tmp_path


@pytest.fixture
def widget(static):
    made = RunWidget({"id": "r1", "name": "resnet", "state": "running", "reason": "", "line": ""})
    yield made
    made.close()


@pytest.fixture
def front(widget):
    return FrontEnd(widget)


def test_nothing_is_sent_before_a_view_says_hello(widget, front):
    widget.append("loss", [0, 1], [2.0, 1.0])
    assert front.frames == []
    front.say("hello")
    assert front.frames == [("loss", 0, [0.0, 1.0], [2.0, 1.0])]


def test_after_hello_only_what_is_new_is_sent(widget, front):
    front.say("hello")
    widget.append("loss", [0, 1], [2.0, 1.0])
    widget.append("loss", np.array([2], dtype=np.int32), np.array([0.5], dtype=np.float32))
    widget.append("acc", range(1), (x for x in [0.9]))
    assert front.frames == [
        ("loss", 0, [0.0, 1.0], [2.0, 1.0]),
        ("loss", 2, [2.0], [0.5]),
        ("acc", 0, [0.0], [0.9]),
    ]


def test_resync_gets_everything_of_every_metric(widget, front):
    front.say("hello")
    widget.append("loss", [0], [1.0])
    widget.append("acc", [0], [0.5])
    widget.append("loss", [1], [0.9])
    front.frames.clear()
    front.say("resync")
    assert front.history("loss") == [(0, 1.0), (1, 0.9)]
    assert front.history("acc") == [(0, 0.5)]


def test_values_that_are_not_finite_arrive_as_they_are(widget, front):
    front.say("hello")
    widget.append("loss", [0, 1, 2], [float("nan"), float("inf"), float("-inf")])
    values = front.frames[0][3]
    assert np.isnan(values[0])
    assert values[1:] == [float("inf"), float("-inf")]


def test_history_grows_and_is_kept_whole(widget, front):
    for start in range(0, 10_000, 100):
        widget.append("loss", np.arange(start, start + 100), np.arange(start, start + 100) / 7)
    front.say("hello")
    assert front.history("loss") == [(i, i / 7) for i in range(10_000)]


def test_put_replaces_from_an_offset_on(widget, front):
    front.say("hello")
    widget.append("loss", [0, 1, 2], [3.0, 2.0, 9.0])
    widget.put("loss", 2, [2, 3], [1.0, 0.5])
    assert front.frames[-1] == ("loss", 2, [2.0, 3.0], [1.0, 0.5])
    widget.put("loss", 0, [0, 1], [3.0, 2.0])  # as after a resume from a checkpoint
    widget.append("loss", [2], [1.0])
    assert front.history("loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    with pytest.raises(ValueError, match="there are 3 rows, not 4"):
        widget.put("loss", 4, [4], [0.0])


def test_threads_lose_nothing_and_leave_no_gap(widget, front):
    def work(metric):
        for i in range(500):
            widget.append(metric, [i], [i])

    threads = [threading.Thread(target=work, args=(f"m{n % 2}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        front.say("hello")
    for thread in threads:
        thread.join()
    front.say("hello")
    for metric in ("m0", "m1"):
        steps = sorted(step for step, _ in front.history(metric))
        assert steps == sorted(2 * list(range(500)))


@pytest.mark.parametrize(("steps", "values"), [([0, 1], [1.0]), ([[0]], [[1.0]])])
def test_points_that_do_not_fit_are_refused_and_change_nothing(widget, front, steps, values):
    front.say("hello")
    with pytest.raises(ValueError, match=r"columns of \[1, 2\] rows: 2 columns of one length|one-dimensional"):
        widget.append("loss", steps, values)
    widget.append("loss", [0], [1.0])
    assert front.history("loss") == [(0, 1.0)]


def test_stop_reaches_every_callback(widget, front):
    pressed = []
    widget.on_stop(lambda: pressed.append(1))
    widget.on_stop(lambda: pressed.append(2))
    front.say("stop")
    assert pressed == [1, 2]


@pytest.mark.parametrize("content", [None, [], {}, {"type": "points"}, {"type": ["hello"]}, {"type": 3}])
def test_other_messages_are_ignored(widget, front, content):
    widget.append("loss", [0], [1.0])
    widget._handle_custom_msg(content, [])
    assert front.frames == []


def test_the_synced_state_is_the_run_and_the_front_end(widget):
    state = widget.get_state()
    assert state["run"]["name"] == "resnet"
    assert state["_esm"] == "export default {}"
    assert state["_css"] == ".mlnb-run {}"


def test_a_front_end_that_is_not_built_is_one_clear_line(static):
    (static / "widget.js").unlink()
    with pytest.raises(MlnbError, match="run `make js`") as caught:
        RunWidget({})
    assert "\n" not in str(caught.value)
