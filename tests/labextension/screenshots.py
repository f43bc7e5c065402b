"""Save pictures of the views, light and dark: ``python tests/labextension/screenshots.py DIRECTORY``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from lab_browser import LabPage, cell, chromium, running_lab
from saved_runs import asides, diverged, loss_curve, resumed, saved
from test_browser import LIVE

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

TRACEBACK = "ValueError in line 12 of the cell: the loss is not finite\nrank 3 on node gpu-07 · after 4 attempts"
SAVED = (
    saved("resnet-18", "succeeded", line="20,000 steps · 12 min, 2 GPUs", loss=loss_curve(20_000), acc=[0.1, 0.8]),
    saved("a-rather-long-name-of-a-run", "failed", TRACEBACK, loss=diverged(1_000)),
    resumed(
        saved("preempted-twice", "succeeded", line="20,000 steps", loss=loss_curve(20_000), **asides(2)), 6_000, 14_500
    ),
    saved("queued", "pending", "waits for 2 GPUs of type a100; expected to start at 14:20"),
    saved("one-point", "running", line="step 7", loss=[0.25]),
    saved("flat", "lost", "the job left the queue and wrote no end", loss=[0.5] * 40),
)


DEFINE = """%load_ext mlnb
import torch
model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
optimizer = torch.optim.Adam(model.parameters())
x = torch.randn(4096, 64)
"""
RUNNING = """%%train --name running
import time
for epoch in mlnb.epochs(60, model=model, optimizer=optimizer):
    for batch in x.split(64):
        loss = (model(batch) - batch[:, :1].sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(0.003)
    print("epoch", epoch, "loss", round(loss.item(), 4))
"""


def main(directory: Path) -> None:
    """Take them all."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["MLNB_RUNS"] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as folder, running_lab(Path(folder)) as lab, chromium() as browser:
        lab.write("saved.ipynb", *(cell(f"%%train  # {i}", run) for i, run in enumerate(SAVED)), kernel="none")
        lab.write("live.ipynb", cell(LIVE))
        for word, theme in THEMES.items():
            context = browser.new_context(viewport={"width": 1100, "height": 1900}, device_scale_factor=1.5)
            tab = LabPage(lab, context.new_page())
            tab.open("saved.ipynb")
            tab.decline_kernel()
            tab.command("apputils:change-theme", theme=theme)
            tab.page.wait_for_timeout(1500)
            tab.page.screenshot(path=directory / f"saved-{word}.png")
            tab.page.set_viewport_size({"width": 480, "height": 1900})
            tab.page.wait_for_timeout(800)
            tab.page.screenshot(path=directory / f"narrow-{word}.png")
            tab.page.set_viewport_size({"width": 1100, "height": 800})
            tab.open("live.ipynb")
            tab.run_all()
            tab.page.get_by_text("step 301").wait_for()
            box = tab.page.locator(".u-over").bounding_box()
            assert box is not None
            tab.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + 40)
            tab.page.wait_for_timeout(600)
            tab.page.screenshot(path=directory / f"live-{word}.png")
            lab.write(f"{word}.ipynb", cell(DEFINE), cell(RUNNING), cell("import time\ntime.sleep(600)"))
            tab.open(f"{word}.ipynb")
            tab.run_all()
            tab.page.locator(".mlnb-text", has_text="left").wait_for()
            tab.page.wait_for_timeout(6000)
            tab.page.screenshot(path=directory / f"running-{word}.png")
            tab.page.get_by_role("button", name="Stop the run running").dblclick()
            tab.page.locator(".mlnb-state", has_text="cancelled").wait_for()
            tab.page.screenshot(path=directory / f"stopped-{word}.png")
            context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
