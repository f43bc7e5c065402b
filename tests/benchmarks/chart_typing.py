"""Typing in a cell while 200,000 steps stream into the card under another: from key to screen."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from .timing import Table

ROOT = Path(__file__).parents[1]
STEPS = 200_000
RATE = 8_000
"""Steps a second."""
KEYS = 150
PAUSE_MS = 90

TRAIN = """\
%%train --name typing --cpus 1
import time
began = time.time()
for step in range({steps}):
    mlnb.log(step=step, loss=1.0 + 0.1 * (step % 3), val_loss=1.2 + 0.1 * (step % 5))
    if step % 100 == 0:
        time.sleep(max(0.0, began + step / {rate} - time.time()))
"""

WATCH = """() => {
  window.mlnbKeys = [];
  document.addEventListener('keydown', event => {
    const pressed = event.timeStamp;
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.mlnbKeys.push((performance.now() - pressed) / 1000);
      port2.postMessage(0);
    });
  }, true);
}"""


def measure(folder: Path) -> Table:
    """Seconds from a key to the next frame, idle and while the steps stream."""
    sys.path.insert(0, str(ROOT / "labextension"))
    from lab_browser import CHROMIUM

    table = Table("Typing while 200,000 steps stream", "ms", "p95 at most 1.5 times that of an idle page")
    if not CHROMIUM.exists():
        return table
    from lab_browser import LabPage, cell, chromium, running_lab

    from mlnb.api import runs

    with running_lab(folder) as lab, chromium() as browser:
        sources = ("%load_ext mlnb", TRAIN.format(steps=STEPS, rate=RATE), "")
        lab.write("typing.ipynb", *(cell(source) for source in sources))
        tab = LabPage(lab, browser.new_context(viewport={"width": 1200, "height": 900}).new_page())
        tab.page.set_default_timeout(180_000)
        tab.open("typing.ipynb")
        tab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
        tab.page.wait_for_timeout(3000)
        tab.page.evaluate(WATCH)
        _add(table, "idle", _type(tab.page))
        tab.page.keyboard.press("Escape")
        tab.run_all()
        tab.page.wait_for_function("() => /step [0-9]/.test(document.querySelector('.mlnb-readout')?.textContent)")
        _add(table, "while steps stream", _type(tab.page, os.environ.get("MLNB_TRACE")))
        table.rows[-1].note = f"{len(runs['typing'].series()['loss']):,} steps had come at the end"
        end = time.monotonic() + 2 * STEPS / RATE
        while runs["typing"].state == "running" and time.monotonic() < end:
            time.sleep(0.2)
        runs["typing"].cancel()
        tab.page.wait_for_timeout(3000)
        _add(table, "after the end, with the curve", _type(tab.page))
    table.peer = "idle"
    return table


def _add(table: Table, name: str, seconds: list[float]) -> None:
    p95 = sorted(seconds)[int(0.95 * len(seconds))]
    table.add(name, seconds)
    table.add(f"{name}, p95", [p95])


def _type(page: Any, profile: str | None = None) -> list[float]:
    """Type into the last cell; seconds from each key to the frame after it."""
    page.locator(".jp-Cell .cm-content").last.click()
    page.evaluate("() => { window.mlnbKeys.length = 0; }")
    if profile:  # a trace, to be read with DevTools
        page.context.browser.start_tracing(page=page, path=profile)
    for i in range(KEYS):
        page.keyboard.press("Enter" if i % 30 == 29 else "x")
        page.wait_for_timeout(PAUSE_MS)
    if profile:
        page.context.browser.stop_tracing()
    found: list[float] = page.evaluate("() => window.mlnbKeys")
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        os.environ["MLNB_RUNS"] = str(Path(place) / "runs")
        os.environ["MLNB_RUNTIME"] = str(Path(place) / "rt")
        print(measure(Path(place)).markdown())
