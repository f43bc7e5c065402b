"""The README's pictures, from a real JupyterLab: ``python tests/labextension/tour.py DIRECTORY``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from lab_browser import LabPage, chromium, running_lab

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01-train-in-a-cell.ipynb"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


def main(directory: Path) -> None:
    """Take them, light and dark."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLNB_RUNS"] = str(Path(folder) / "runs")
        with running_lab(Path(folder)) as lab, chromium() as browser:
            for word, theme in THEMES.items():
                shutil.copy(NOTEBOOK, lab.root / f"{word}.ipynb")
                context = browser.new_context(viewport={"width": 1000, "height": 860}, device_scale_factor=1.5)
                tab = LabPage(lab, context.new_page())
                tab.open(f"{word}.ipynb")
                tab.command("apputils:change-theme", theme=theme)
                tab.run_all()
                said = tab.page.locator(".jp-OutputArea-output")
                said.get_by_text("accuracy of the weights that were pulled").wait_for(timeout=120_000)
                # the notebook holds only the cells in sight: from its top on, the first chart is that of the first run
                tab.page.locator(".jp-WindowedPanel-outer").first.evaluate("panel => panel.scrollTo(0, 0)")
                tab.page.wait_for_timeout(1000)
                tab.page.locator(".jp-CodeCell", has_text="%%train").first.scroll_into_view_if_needed()
                tab.page.wait_for_timeout(1000)
                chart = tab.page.locator(".mlnb-plot canvas").first
                chart.scroll_into_view_if_needed()
                tab.page.locator(".jp-Cell").filter(has=chart).first.evaluate("cell => cell.scrollIntoView()")
                tab.page.wait_for_timeout(1500)
                tab.page.screenshot(path=directory / f"train-{word}.png")
                print(word, tab.errors)
                context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
