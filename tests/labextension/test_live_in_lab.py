"""The view under the cell is a view of a run: live while other cells run, after a reload, after a kernel restart."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import CHROMIUM, MIME_TYPE, LabPage, cell, running_lab  # noqa: E402

from mlnb.api import runs  # noqa: E402
from mlnb.rundir import FINAL  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]
expect = playwright.expect
expect.set_options(timeout=90_000)

TRAIN = """\
%%train --name {name} --cpus 1
import time, pathlib
step = 0
while not pathlib.Path({gate!r}).exists():
    step += 1
    mlnb.log(step=step, loss=1 / step)
    time.sleep(0.01)
print("gate open")
"""
BUSY = "import time\nfor _ in range(600): time.sleep(0.1)"


def points(page, metric="loss") -> int:
    """How many points the chart has, by its text twin."""
    row = page.locator(".mlnb-run table tr", has=page.locator(f"th:text-is('{metric}')"))
    return int(row.locator("td").first.text_content(timeout=90_000))


def moves(page) -> None:
    """Fail unless points go on coming."""
    before = points(page)
    page.wait_for_function(
        """before => [...document.querySelectorAll('.mlnb-run tbody tr')].some(row =>
            row.firstChild.textContent === 'loss' && Number(row.children[1].textContent) > before + 20)""",
        arg=before,
        timeout=90_000,
    )


def trained(tab, name, *more):
    """Open a notebook, start a run in it and then ``more`` cells; the run's gate."""
    gate = tab.lab.root / f"gate-{name}"
    cells = [cell(text) for text in ("%load_ext mlnb", TRAIN.format(name=name, gate=str(gate)), *more)]
    tab.lab.write(f"{name}.ipynb", *cells)
    tab.open(f"{name}.ipynb")
    tab.run_all()
    expect(tab.page.locator(".mlnb-state")).to_have_text("running", timeout=120_000)
    return gate


HAS_PICTURE = "() => JSON.stringify(window.jupyterapp.shell.currentWidget.context.model.toJSON()).includes('image/png')"


def outputs(tab, notebook: str) -> list[dict]:
    """The outputs in a saved notebook."""
    saved = json.loads((tab.lab.root / notebook).read_text())
    return [output for cell in saved["cells"] for output in cell["outputs"]]


def save(tab):
    tab.command("docmanager:save")
    tab.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


def test_chart_moves_and_stop_stops_while_another_cell_runs(tab):
    trained(tab, "busy", BUSY)
    page = tab.page
    expect(page.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(1)
    moves(page)
    assert tab.ink() > 50
    expect(page.locator(".mlnb-gauge", has_text="memory")).to_be_visible()
    stop = page.get_by_role("button", name="Stop the run busy")
    stop.click()
    expect(stop).to_have_text("Stop? Click again")
    stop.press("Escape")
    expect(stop).to_have_text("Stop")
    stop.click()
    expect(stop).to_have_text("Stop", timeout=10_000)  # nobody has clicked again
    assert runs["busy"].state == "running"
    stop.click()
    stop.click()
    expect(page.locator(".mlnb-stop")).to_have_text("Stopping…")
    expect(page.locator(".mlnb-state")).to_have_text("cancelled")
    expect(page.locator(".mlnb-stop")).to_be_hidden()
    expect(page.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(1)  # the other cell still runs
    assert runs["busy"].state == "cancelled"
    expect(page.locator(".mlnb-resume")).to_be_hidden()  # it has no checkpoint
    assert tab.errors == []


def test_reload_and_restart_re_attach_with_the_whole_history_and_no_cell_executed(tab):
    gate = trained(tab, "attached")
    page = tab.page
    moves(page)
    save(tab)

    tab.open("attached.ipynb")  # a reload
    expect(page.locator(".mlnb-state")).to_have_text("running")
    moves(page)

    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    moves(page)
    tab.open("attached.ipynb")  # and the page again, with a kernel that has never heard of the run
    moves(page)
    assert page.locator(".jp-InputPrompt", has_text="[*]").count() == 0

    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")  # as culling does
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.sessionContext.session")
    moves(page)
    gate.touch()
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    expect(page.locator(".mlnb-log")).to_have_text("gate open")
    loss = runs["attached"].series()["loss"]
    assert points(page) == len(loss)  # the history is whole
    last = f"{len(loss):,}".replace(",", "\u202f")
    expect(page.locator(".mlnb-readout")).to_contain_text(f"step {last}")
    said = page.get_by_role("img", name=f"loss over {len(loss)} points, step 1 to {last}: last ")  # as its twin says
    expect(said).to_have_attribute("aria-label", re.compile(rf" at step {last}, highest 1\.$"))
    page.wait_for_function(HAS_PICTURE)  # no kernel has written it
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty")
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    save(tab)
    (data,) = [output["data"] for output in outputs(tab, "attached.ipynb") if MIME_TYPE in output.get("data", {})]
    assert data[MIME_TYPE]["state"] == "succeeded"
    assert len(data[MIME_TYPE]["metrics"]["loss"]["step"]) > 50
    assert {"image/png", "text/html", "text/plain"} < set(data)
    assert tab.errors == []


def test_a_notebook_that_was_saved_while_its_run_went_on_is_brought_up_to_date_when_it_is_opened(tab, start):
    run = start("import mlnb\nfor step in range(50): mlnb.log(step=step, loss=1 / (step + 1))", name="left").wait(60)
    shown = {"version": 1, "id": run.id, "name": "left", "state": "running", "metrics": {}}
    other = {**shown, "id": "20000101-000000-abcdef"}
    tab.lab.write("left.ipynb", cell("%%train", {MIME_TYPE: shown}), cell("%%train", {MIME_TYPE: other}), kernel="none")
    tab.open("left.ipynb")
    tab.decline_kernel()
    expect(tab.page.locator(".mlnb-state")).to_have_text(["succeeded", "running"])
    tab.page.wait_for_function(HAS_PICTURE)
    save(tab)
    first, second = (output["data"] for output in outputs(tab, "left.ipynb"))
    assert first[MIME_TYPE]["state"] == "succeeded"
    assert len(first[MIME_TYPE]["metrics"]["loss"]["step"]) == 50
    assert second == {MIME_TYPE: other}
    assert tab.errors == []


RESUMED = """\
%%train --name again --cpus 1 {more}
import time, pathlib
for epoch in mlnb.epochs(3):
    while epoch == 1 and not pathlib.Path({gate!r}).exists():
        time.sleep(0.01)
    mlnb.log(step=epoch, loss=1 / (1 + epoch))
"""


def test_a_run_that_was_stopped_offers_to_go_on_from_its_checkpoint_and_its_cell_does(tab):
    gate = str(tab.lab.root / "gate-stopped")
    text = RESUMED.format(more="--gpus 0", gate=gate).replace("--name again", "--name stopped")
    tab.lab.write("stopped.ipynb", cell("%load_ext mlnb"), cell(text))
    tab.open("stopped.ipynb")
    page = tab.page
    tab.run_all()
    stop = page.get_by_role("button", name="Stop the run stopped")
    while not (runs.index.named("stopped") and runs["stopped"].checkpoints()):
        page.wait_for_timeout(100)
    stop.dblclick()
    expect(page.locator(".mlnb-state")).to_have_text("cancelled")
    expect(page.locator(".mlnb-command")).to_have_text("%%train --resume stopped")
    page.get_by_role("button", name="Put into the cell").click()
    source = page.locator(".jp-Cell").nth(1).locator(".cm-content")
    expect(source).to_contain_text("%%train --cpus 1 --gpus 0 --resume stopped")
    Path(gate).touch()
    source.click()
    tab.command("notebook:run-cell")
    expect(page.locator(".mlnb-state")).to_have_text("succeeded", timeout=120_000)
    expect(page.locator(".mlnb-resume")).to_be_hidden()
    assert runs["stopped"].attempts == 2
    assert tab.errors == []


def test_a_view_follows_its_run_into_the_next_attempt(tab):
    gate = str(tab.lab.root / "gate-again")
    first, second = (RESUMED.format(more=more, gate=gate) for more in ("", "--resume again"))
    cancel = (
        "import time, pathlib\nwhile not mlnb.runs['again'].checkpoints(): time.sleep(0.01)\n"
        f"_ = mlnb.runs['again'].cancel()\nwhile not pathlib.Path({gate!r}).exists(): time.sleep(0.01)"
    )
    tab.lab.write("again.ipynb", *[cell(text) for text in ("%load_ext mlnb", first, cancel, second)])
    tab.open("again.ipynb")
    tab.run_all()
    expect(tab.page.locator(".mlnb-state")).to_have_text("cancelled", timeout=120_000)
    tab.page.wait_for_timeout(1000)  # its stream has ended, and the kernel has said its last word
    Path(gate).touch()
    expect(tab.page.locator(".mlnb-state")).to_have_text(["succeeded", "succeeded"], timeout=120_000)
    assert runs["again"].attempts == 2
    assert tab.errors == []


def test_the_saved_file_shows_the_picture_without_a_kernel_and_elsewhere(tab, tmp_path):
    gate = trained(tab, "frozen")
    page = tab.page
    moves(page)
    gate.touch()
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    while runs["frozen"].state not in FINAL:
        time.sleep(0.05)
    page.wait_for_function(HAS_PICTURE)  # the kernel has frozen it
    save(tab)
    path = tab.lab.root / "frozen.ipynb"
    saved = json.loads(path.read_text())
    (data,) = [o["data"] for c in saved["cells"] for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert "application/vnd.jupyter.widget-view+json" not in data
    assert len(data["application/vnd.mlnb.run+json"]["metrics"]["loss"]["step"]) == len(runs["frozen"].series()["loss"])

    saved["metadata"] = {"kernelspec": {"name": "no-such-kernel", "display_name": "none", "language": "none"}}
    (tab.lab.root / "elsewhere.ipynb").write_text(json.dumps(saved))
    shutil.rmtree(runs["frozen"].dir)  # and no run: another machine
    tab.open("elsewhere.ipynb")
    tab.decline_kernel()
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    assert tab.ink() > 50
    assert page.get_by_text("model not found").count() == 0
    assert tab.errors == []

    made = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(tmp_path), str(path)],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "data:image/png;base64," in (tmp_path / "frozen.html").read_text()


def test_without_the_server_extension_the_kernel_keeps_the_view_up_to_date(tmp_path, browser):
    with running_lab(tmp_path, **{"ServerApp.jpserver_extensions": "{'mlnb': False, 'jupyterlab': True}"}) as lab:
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        tab = LabPage(lab, context.new_page())
        gate = trained(tab, "unserved", BUSY)
        moves(tab.page)
        moves(tab.page)
        assert tab.page.locator(".mlnb-stop:visible").count() == 0
        gate.touch()
        expect(tab.page.locator(".mlnb-state")).to_have_text("succeeded")
        assert tab.errors == []
        context.close()
