"""The views in a real browser: a saved run with no kernel, and a live one."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import CHROMIUM, INK, cell  # noqa: E402
from saved_runs import asides, diverged, loss_curve, paired, printed, resumed, saved  # noqa: E402

from mlnb.render.format import format_value  # noqa: E402

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
    expect(page.locator(".mlnb-stop:visible")).to_have_count(0)
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


def test_training_and_validation_are_in_one_chart_with_a_legend_that_can_be_clicked(saved_tab):
    page = open_saved(saved_tab, saved("resnet", "succeeded", **paired(1_000, 5)))
    entries = page.locator(".mlnb-legend-entry")
    loss, val_loss = (page.locator(".mlnb-legend-entry", has_text=name) for name in (re.compile("^loss"), "val_loss"))
    expect(entries).to_have_count(2)
    whole = saved_tab.ink()
    loss.click()
    expect(loss).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".mlnb-outside")).to_be_hidden()  # it was the loss that had a spike
    page.wait_for_function(f"() => ({INK})('.mlnb-plot canvas') < {whole // 4}")
    loss.dblclick()
    expect(loss).to_have_attribute("aria-pressed", "true")
    expect(val_loss).to_have_attribute("aria-pressed", "false")
    val_loss.press("Enter")
    expect(val_loss).to_have_attribute("aria-pressed", "true")
    val_loss.press("Shift+Enter")
    expect(loss).to_have_attribute("aria-pressed", "false")
    val_loss.press("Shift+Enter")
    expect(loss).to_have_attribute("aria-pressed", "true")
    assert page.get_by_label("Metric to show").locator("option").all_text_contents() == ["loss", "acc"]
    assert saved_tab.errors == []


def test_an_early_spike_is_left_out_and_told_and_the_axis_may_be_logarithmic(saved_tab):
    page = open_saved(saved_tab, saved("resnet", "succeeded", **paired(1_000, 5)))
    told = page.locator(".mlnb-outside")
    expect(told).to_have_text("loss: 3 points above the chart, up to 180")
    every = page.get_by_role("button", name="all values")
    every.click()
    expect(told).to_be_hidden()
    every.click()
    expect(told).to_be_visible()
    page.locator(".u-over").dblclick()
    expect(every).to_have_attribute("aria-pressed", "true")
    expect(told).to_be_hidden()
    log = page.get_by_role("button", name="log", exact=True)
    log.click()
    expect(log).to_have_attribute("aria-pressed", "true")
    assert saved_tab.ink() > 300
    page.get_by_label("Metric to show").select_option("acc")
    expect(every).to_be_hidden()
    assert saved_tab.errors == []


def test_the_keyboard_reads_values_out_and_zooms(saved_tab):
    loss = loss_curve(100)
    page = open_saved(saved_tab, saved("resnet", "succeeded", loss=loss))
    chart, said = page.locator(".mlnb-chart"), page.locator(".mlnb-run [aria-live]")
    page.get_by_role("button", name="log", exact=True).focus()
    page.keyboard.press("Tab")
    expect(chart).to_be_focused()
    assert chart.evaluate("chart => getComputedStyle(chart).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text(f"step 98: loss {format_value(loss[98])}")
    expect(page.locator(".mlnb-readout")).to_have_text(f"step 98 · {format_value(loss[98])}")
    page.keyboard.press("Home")
    expect(said).to_contain_text("step 0:")
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="Show all steps")).to_be_visible()
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Show all steps")).to_be_hidden()
    assert page.locator(".jp-Dialog").count() == 0  # in a notebook 0, 0 restarts the kernel
    assert page.locator(".jp-Cell").count() == 1
    assert saved_tab.errors == []


def test_epochs_have_a_table_and_nodes_are_grouped(saved_tab):
    used = {name: values for name, values in asides(2).items() if name.startswith("mlnb.")}
    nodes = {f"mlnb.node{node}.{name[5:]}": values for node in (1, 0) for name, values in used.items()}
    bundle = saved("resnet", "succeeded", **paired(1_000, 20), **asides(0), **nodes)
    page = open_saved(saved_tab, bundle)
    page.get_by_text("20 epochs").click()
    rows = page.locator(".mlnb-epoch-table tbody tr")
    expect(rows).to_have_count(10)
    expect(page.locator(".mlnb-epoch-table thead")).to_have_text("epochlossval_lossaccval_acctime")
    page.get_by_role("button", name="Show all 20 epochs").click()
    expect(rows).to_have_count(20)
    expect(rows.first.locator("th, td").last).to_have_text("1 min 12 s")
    shown = page.locator(".mlnb-gauges > div").evaluate_all(
        "cells => cells.map(cell => (cell.querySelector('.mlnb-gauge-label') ?? cell).textContent)"
    )
    of_node = ["CPU", "memory", "GPU 0", "GPU 1"]
    assert shown == ["step time", "samples/s", "CPU", "memory", "node 0", *of_node, "node 1", *of_node]
    assert saved_tab.errors == []


def test_no_card_takes_the_wheel_from_the_notebook(saved_tab):
    cards = [
        printed(saved(f"run {i}", "failed" if i % 2 else "succeeded", **paired(500, 20), **asides(2)), 30)
        for i in range(20)
    ]
    page = open_saved(saved_tab, *cards)
    expect(page.locator(".mlnb-plot canvas").first).to_be_visible()
    assert page.evaluate(SCROLLABLE) == []
    box = page.locator(".mlnb-run").first.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2)
    eaten = 0
    for _ in range(50):
        before = page.evaluate(SCROLLED)
        page.mouse.wheel(0, 110)
        try:
            page.wait_for_function(f"before => ({SCROLLED})() > before", arg=before, timeout=2_000)
        except playwright.TimeoutError:
            eaten += 1
    assert eaten == 0
    assert saved_tab.errors == []


SCROLLED = "() => document.querySelector('.jp-WindowedPanel-outer').scrollTop"

SCROLLABLE = """() => [...document.querySelectorAll('.jp-OutputArea-output, .jp-OutputArea-output *')].filter(element =>
  ['auto', 'scroll'].includes(getComputedStyle(element).overflowY) && element.scrollHeight > element.clientHeight
).map(element => element.className)"""


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
