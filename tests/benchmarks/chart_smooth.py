"""Points a second into one view in a real browser: how far behind it is, and whether the page stays smooth."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from .timing import Table

ROOT = Path(__file__).parents[1]
RATES = (500, 5_000)
SECONDS = 8
THERE = 100_000

TRAIN = """\
%%train --name rate-{rate} --cpus 1
import time
began = {began}
for step in range(-{there}, 0):
    mlnb.log(step=step, loss=0.5)
done = time.time()
while True:
    time.sleep(0.01)
    now = time.time()
    for i in range(int((now - done) * {rate})):
        mlnb.log(step=int((now - began) * 1e6) + i, loss=1.0 + 0.1 * (i % 3))
        done += 1 / {rate}
"""

LOOK = """([began, seconds]) => new Promise(resolve => {
  const gaps = [], lags = [];
  const readout = document.querySelector('.mlnb-readout');
  const start = performance.now();
  let before = start;
  const first = performance.now();
  const look = now => {
    gaps.push((now - before) / 1000);
    before = now;
    const step = Number(readout.textContent.split('·')[0].replace(/[^0-9]/g, ''));
    lags.push(Date.now() / 1000 - began - step / 1e6);
    now - first < seconds * 1000 ? requestAnimationFrame(look) : resolve([gaps.slice(1), lags]);
  };
  requestAnimationFrame(look);
})"""


def measure(folder: Path) -> Table:
    """Seconds behind, and seconds between two frames, at several rates."""
    sys.path.insert(0, str(ROOT / "labextension"))
    from lab_browser import CHROMIUM

    table = Table("Points a second into one view", "ms", "500 points a second, smooth in the browser")
    if not CHROMIUM.exists():
        return table
    from lab_browser import LabPage, cell, chromium, running_lab

    from mlnb.api import runs

    with running_lab(folder) as lab, chromium() as browser:
        for rate in RATES:
            began = int(time.time())
            source = TRAIN.format(rate=rate, began=began, there=THERE)
            lab.write(f"{rate}.ipynb", cell("%load_ext mlnb"), cell(source))
            tab = LabPage(lab, browser.new_page())
            tab.open(f"{rate}.ipynb")
            tab.run_all()
            tab.page.wait_for_function("() => /step [1-9]/.test(document.querySelector('.mlnb-readout')?.textContent)")
            tab.page.wait_for_timeout(2000)
            count = len(runs[f"rate-{rate}"].series()["loss"])
            gaps, lags = tab.page.evaluate(LOOK, [began, SECONDS])
            came = (len(runs[f"rate-{rate}"].series()["loss"]) - count) / SECONDS
            slow = sum(gap > 0.05 for gap in gaps)
            table.add(f"from mlnb.log to the screen, {rate:,} a second", lags)
            table.rows[-1].note = (
                f"{came:,.0f} points a second came, beside {THERE:,} that were there; "
                f"a rank writes every 200 ms, the server looks every 100 ms"
            )
            table.add(f"between two frames, {rate:,} a second", gaps)
            table.rows[-1].note = f"{len(gaps) / SECONDS:.0f} frames a second, {slow} of {len(gaps)} took over 50 ms"
            runs[f"rate-{rate}"].cancel()
            tab.page.close()
    return table


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        os.environ["MLNB_RUNS"] = str(Path(place) / "runs")
        print(measure(Path(place)).markdown())
