"""What a cell displays travels by MIME type, and never fails the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.render.output_bundle import MIME, bundle
from tests.conftest import Start
from tests.waiting import until


def ended(start: Start, script: str) -> Run:
    run = start(script, interactive=True).wait(90)
    assert run.state == "succeeded", run.logs()
    return run


RICH = """
import base64
from IPython.display import HTML, JSON, Image, Markdown, display

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

class Broken:
    def _repr_html_(self):
        raise ValueError("no HTML")
    def __repr__(self):
        return "broken"

class Anything:
    def __getattr__(self, name):
        return lambda *_: 1 / 0

display(HTML("<b>bold</b>"), Markdown("**mark**"))
display(Image(data=PNG))
display(JSON({"a": [1]}))
display({"text/plain": "raw", "text/html": "<i>raw</i>"}, raw=True)
display(HTML("<b>left out</b>"), exclude=["text/html"])
display(Broken(), Anything(), 7, "text")
__import__("pandas").DataFrame({"column": [1]})
"""


def test_displays_are_kept_by_mime_type_and_plain_text_is_printed(start: Start):
    run = ended(start, RICH)
    html, mark, png, as_json, raw, frame = run.displays()
    assert html["text/html"] == "<b>bold</b>"
    assert mark["text/markdown"] == "**mark**"
    assert list(png) == ["image/png"]
    assert as_json["application/json"] == {"a": [1]}
    assert raw == {"text/plain": "raw", "text/html": "<i>raw</i>"}
    assert "<th>column</th>" in frame["text/html"]
    assert "column" in frame["text/plain"]
    first, broken, anything, number, text = run.logs(0, "out").splitlines()
    assert "HTML object" in first
    assert (broken, number, text) == ("broken", "7", "'text'")
    assert "Anything" in anything
    assert "ValueError: no HTML" in run.logs(0, "err")


def test_a_display_with_an_id_is_replaced(start: Start):
    run = ended(
        start,
        "from IPython.display import HTML, display, update_display\n"
        "handle = display(HTML('first'), display_id='a')\n"
        "other = display('text', display_id=True)\n"
        "update_display(HTML('second'), display_id='a')\n"
        "handle.update(HTML('third'))\nother.update('new text')",
    )
    third, text = run.displays()
    assert third["text/html"] == "third"
    assert text == {"text/plain": "'new text'"}


@pytest.mark.parametrize("wait", [True, False])
def test_clear_output_clears_text_and_displays(start: Start, wait: bool):
    run = ended(
        start,
        "from IPython.display import HTML, clear_output, display\n"
        f"for i in range(3):\n    clear_output(wait={wait})\n    print('epoch', i)\n    display(HTML(f'<b>{{i}}</b>'))",
    )
    assert run.logs() == "epoch 2\n"
    assert [shown["text/html"] for shown in run.displays()] == ["<b>2</b>"]


def test_clear_output_at_the_end_waits_for_an_output_that_does_not_come(start: Start):
    script = "from IPython.display import HTML, clear_output, display\nprint('last')\ndisplay(HTML('x'))\n"
    kept = ended(start, f"{script}clear_output(wait=True)")
    assert (kept.logs(), len(kept.displays())) == ("last\n", 1)
    cleared = ended(start, f"{script}clear_output()")
    assert (cleared.logs(), cleared.displays()) == ("", [])
    printed = ended(start, f"{script}clear_output(wait=True)\nprint('new')")
    assert (printed.logs(), printed.displays()) == ("new\n", [])


def test_the_view_has_the_displays(start: Start):
    run = ended(
        start, "from IPython.display import HTML, Markdown, display\ndisplay(HTML('<b>x</b>'), Markdown('*m*'))"
    )
    shown = bundle(run)
    assert [list(display) for display in shown[MIME]["displays"]] == [
        ["text/html", "text/plain"],
        ["text/markdown", "text/plain"],
    ]
    assert "<div><b>x</b></div>" in shown["text/html"]
    assert "*m*" in shown["text/html"]
    json.dumps(shown)


WIDGETS = """
import pathlib, time
from tqdm.notebook import tqdm
for epoch in tqdm(range(2), desc="epochs"):
    for batch in tqdm(range(3), desc="batches", leave=False):
        pass
    time.sleep(0.2)  # tqdm counts what is drawn, ten times a second
    while epoch == 1 and not pathlib.Path(GATE).exists():
        time.sleep(0.01)
"""


def test_a_widget_is_shown_as_it_looks_now_and_not_if_it_is_closed(start: Start, tmp_path: Path):
    pytest.importorskip("ipywidgets")
    gate = tmp_path / "gate"
    run = start(WIDGETS.replace("GATE", repr(str(gate))), interactive=True)

    def shown() -> list[str]:
        return [display["text/plain"] for display in bundle(run)[MIME]["displays"]]

    until(lambda: len(shown()) == 1 and shown()[0].startswith("epochs:  50%") and "1/2" in shown()[0])
    gate.touch()
    run.wait(60)
    (epochs,) = shown()
    assert epochs.startswith("epochs: 100%")
    assert "2/2" in epochs
    assert [list(display) for display in run.displays()] == [["text/plain"]]
