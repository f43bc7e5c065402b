"""A cell is trained in a real JupyterLab, as a person sees it."""

import json

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import CHROMIUM, cell  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]
expect = playwright.expect

DEFINE = """\
import torch, time, pathlib
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
gate = pathlib.Path("gate").absolute()
"""

TRAIN = """\
%%train --name in-lab
for step in range(200):
    loss = (model(torch.ones(8, 2)) - 1).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    while step == 100 and not gate.exists():
        time.sleep(0.02)
print("trained to the end")
"""


def test_a_cell_trains_while_others_run_and_its_curve_is_there_after_a_reload(tab):
    cells = [
        cell(text)
        for text in ("%load_ext mlnb", DEFINE, TRAIN, "6 * 7", "print('norm', float(model.weight.norm()) > 0)")
    ]
    tab.lab.write("train.ipynb", *cells)
    gate = tab.lab.root / "gate"
    tab.open("train.ipynb")
    tab.run_all()
    page = tab.page

    expect(page.get_by_text("42", exact=True)).to_be_visible()  # ran, although the run is held at step 100
    expect(page.locator(".mlnb-state")).to_have_text("running")
    expect(page.locator(".mlnb-readout")).to_contain_text("step 101")
    expect(page.get_by_text("Waiting for run in-lab")).to_be_visible()  # the last cell reads the model
    assert tab.ink() > 100

    gate.touch()
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    expect(page.get_by_text("norm True")).to_be_visible()
    expect(page.locator(".mlnb-log")).to_contain_text("trained to the end")
    tab.command("docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")

    saved = json.loads((tab.lab.root / "train.ipynb").read_text())
    data = next(o["data"] for c in saved["cells"] for o in c["outputs"] if "image/png" in o.get("data", {}))
    assert data["application/vnd.mlnb.run+json"]["state"] == "succeeded"
    assert data["application/vnd.mlnb.run+json"]["metrics"]["loss"]["step"] == list(range(1, 201))

    tab.open("train.ipynb")
    expect(page.locator(".mlnb-state")).to_have_text("succeeded")
    expect(page.locator(".mlnb-readout")).to_contain_text("step 200")
    assert tab.ink() > 100
    assert tab.errors == []
