"""The views in a real browser: a saved run with no kernel, and a live one."""

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import CHROMIUM, cell  # noqa: E402
from saved_runs import asides, diverged, loss_curve, resumed, saved  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]
expect = playwright.expect
expect.set_options(timeout=90_000)


def open_saved(tab, *bundles):
    """Open a notebook with these outputs and decline to start a kernel for it."""
    tab.show(tab.lab.write("saved.ipynb", cell("%%train", *bundles), kernel="no-such-kernel"))
    tab.decline_kernel()
    return tab.page


def test_saved_run_is_drawn_with_no_kernel(saved_tab):
    bundle = saved("resnet", "succeeded", line="2 000 steps in 3 min", loss=loss_curve(2_000), acc=[0.1, 0.9])
    page = open_saved(saved_tab, bundle)
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    expect(page.locator(".mlnb-name")).to_have_text("resnet")
    expect(page.locator(".mlnb-readout")).to_contain_text("step 1\u202f999")
    expect(page.locator(".mlnb-run button:visible")).to_have_count(0)
    assert saved_tab.ink() > 500
    assert page.locator(".jp-OutputArea").get_by_text("no extension").count() == 0
    assert all(session["path"] != "saved.ipynb" for session in saved_tab.lab.get("api/sessions"))
    assert saved_tab.errors == []


def test_values_that_are_not_finite_are_counted_and_told(saved_tab):
    page = open_saved(saved_tab, saved("resnet", "failed", "the loss is not finite", loss=diverged(1_000)))
    expect(page.locator(".mlnb-non-finite")).to_have_text(
        "∞ at 5 steps, first at step 970; NaN at 25 steps, first at step 975"
    )
    expect(page.get_by_role("img", name="loss over 1000 points")).to_be_visible()
    assert saved_tab.ink() > 300
    assert saved_tab.errors == []


def test_zoom_choice_of_metric_and_hover(saved_tab):
    page = open_saved(saved_tab, saved("resnet", "succeeded", loss=loss_curve(1_000), acc=[0.1, 0.5, 0.9]))
    over = page.locator(".u-over")
    box = over.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
    page.mouse.up()
    show_all = page.get_by_role("button", name="Show all steps")
    expect(show_all).to_be_visible()
    page.mouse.move(box["x"] + 1, middle)
    expect(page.locator(".mlnb-readout")).to_contain_text("step 2")
    show_all.click()
    expect(show_all).to_be_hidden()
    page.get_by_label("Metric to show").select_option("acc")
    expect(page.locator(".mlnb-readout")).to_have_text("step 2 · 0.9")
    assert saved_tab.errors == []


def test_attempts_and_what_was_used_are_shown_and_told(saved_tab):
    bundle = saved("resnet", "succeeded", loss=loss_curve(1_000), **asides(2))
    page = open_saved(saved_tab, resumed(bundle, 400))
    expect(page.get_by_role("img", name="It has attempt 2 from step 400.")).to_be_visible()
    expect(page.locator(".mlnb-gauge")).to_have_count(6)
    expect(page.locator(".mlnb-gauge").last).to_contain_text("GPU 1mean 9")
    expect(page.locator(".mlnb-gauge").last).to_contain_text("peak 61.0 GB")
    row = page.locator(".mlnb-run table tr", has_text="GPU 0 memory")
    expect(row.locator("td").nth(2)).to_have_text("peak 61.0 GB")
    expect(page.locator("select.mlnb-metric")).to_be_hidden()  # what was used is no metric
    assert saved_tab.errors == []


def test_a_run_saved_before_its_end_says_so(saved_tab):
    page = open_saved(saved_tab, saved("queued", "pending", "waits for 2 GPUs"))
    expect(page.locator(".mlnb-text")).to_have_text("when this was saved · waits for 2 GPUs")
    expect(page.locator(".mlnb-empty")).to_have_text("No metrics yet.")
    expect(page.locator(".mlnb-plot")).to_be_hidden()
    assert saved_tab.errors == []


def test_output_that_cannot_be_read_says_why(saved_tab):
    page = open_saved(saved_tab, {**saved("old", "lost"), "application/vnd.mlnb.run+json": {"version": 9}})
    expect(page.locator(".mlnb-output")).to_have_text("This run was saved in format 9; this mlnb reads format 1.")


LIVE = """
import threading, time
from mlnb.notebook.view.widget import RunWidget
run = dict(id='r1', name='live', state='running', reason='', line='')
widget = RunWidget(run)
stop = threading.Event()
widget.on_stop(stop.set)
def train():
    for i in range(0, 300, 10):
        widget.append('loss', range(i, i + 10), [1 / (j + 1) for j in range(i, i + 10)])
        time.sleep(0.05)
    # A message that is lost on the way: the view must notice and ask for everything.
    send, widget.send = widget.send, lambda *_: None
    widget.append('loss', [300], [0.5])
    widget.send = send
    widget.append('loss', [301], [0.4])
    stop.wait(60)
    widget.run = {**run, 'state': 'cancelled', 'reason': 'stopped by you'}
thread = threading.Thread(target=train, daemon=True)
thread.start()
widget
"""


def test_live_widget_follows_recovers_and_stops(tab):
    tab.open(tab.lab.write("live.ipynb", cell(LIVE), cell("")))
    page = tab.page
    tab.run_all()
    view = page.locator(".jp-OutputArea .mlnb-run")
    expect(view.locator(".mlnb-state")).to_have_text("running")
    expect(view.locator(".mlnb-readout")).to_contain_text("step 301 · 0.4")
    expect(view.locator("table td").first).to_have_text("302")
    assert tab.ink() > 100
    view.get_by_role("button", name="Stop the run live").dblclick()
    expect(view.locator(".mlnb-state")).to_have_text("cancelled")
    expect(view.locator(".mlnb-text")).to_have_text("stopped by you")
    expect(view.locator(".mlnb-stop")).to_be_hidden()
    assert tab.errors == []
